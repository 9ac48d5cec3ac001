"""Commands that plugins bring: found by name, listed in the help, never in the way of the built-in ones."""

import json
import subprocess
import sys

import pytest

from seg.errors import Exit

HOOKS = """
from seg import Offer, hookimpl

@hookimpl
def seg_commands():
    yield Offer("{name}", "{module}_commands:greet", "Greets somebody")
"""
COMMANDS = """
from __future__ import annotations
from typing import Annotated
import typer
from seg import SegError, usage_error

def greet(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who.")],
    times: Annotated[int, typer.Option("--times", min=1, help="How often.")] = 1,
    fail: Annotated[str, typer.Option("--fail")] = "",
) -> None:
    '''Greet somebody, with a good word.'''
    if fail == "refuse":
        raise usage_error("nobody", expected="somebody")
    if fail == "bug":
        raise ZeroDivisionError("by nothing")
    if fail == "no":
        raise typer.Abort
    if fail:
        raise typer.Exit(int(fail))
    typer.echo(f"hello {name} " * times)
"""


def install(folder, name, code):
    """A distribution `name` with one entry point, as a pip install leaves it."""
    module = name.replace("-", "_")
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[seg]\n{name} = {module}\n")
    (folder / f"{module}.py").write_text(code.replace("{module}", module))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    before = set(sys.modules)
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield path
    for name in set(sys.modules) - before:
        if name.startswith("fake"):
            del sys.modules[name]


def offer(folder, distribution="fake-greet", name="greet", commands=COMMANDS):
    install(folder, distribution, HOOKS.replace("{name}", name))
    (folder / f"{distribution.replace('-', '_')}_commands.py").write_text(commands)


def test_a_plugins_command_is_run_with_its_parameters(folder, command):
    offer(folder)
    assert command("greet", "you", "--times", "2") == (0, "hello you hello you \n", "")
    assert command("fake-greet:greet", "you")[:2] == (0, "hello you \n")
    code, out, _ = command("greet", "--help")
    assert code == 0
    assert all(word in out for word in ("seg greet", "NAME", "--times", "How often.", "Greet somebody, with a good"))


@pytest.mark.parametrize(("words", "code", "said"), [
    ((), Exit.USAGE, "NAME"),
    (("you", "--tims", "1"), Exit.USAGE, "--tims"),
    (("you", "--times", "0"), Exit.USAGE, "--times"),
    (("you", "--fail", "refuse"), Exit.USAGE, "expected somebody"),
    (("you", "--fail", "4"), Exit.PARTLY, ""),
    (("you", "--fail", "no"), 130, "stopped"),
    (("you", "--fail", "bug"), Exit.PLUGIN,
     "'greet' of fake-greet 1.2 (hook seg_commands): failed: ZeroDivisionError: by nothing"),
])  # fmt: skip
def test_its_errors_follow_the_usual_rules(folder, command, words, code, said):
    offer(folder)
    found, out, err = command("greet", *words)
    assert (found, out) == (code, "")
    assert said in err


def test_the_help_lists_commands_of_plugins_apart_and_imports_none(folder, command):
    offer(folder, commands="raise RuntimeError")
    offer(folder, "fake-run", "run")
    code, out, _ = command("--help")
    assert code == 0
    ours, theirs = out.split("Commands of plugins:")
    assert "greet" not in ours
    assert "Greets somebody (fake-greet)" in theirs
    assert "fake-run:run" in theirs


def test_a_broken_plugin_is_not_in_the_way(folder, command):
    install(folder, "fake-broken", "raise RuntimeError('broken')")
    assert command("--help")[0] == 0
    code, _, err = command("fake-broken")
    assert code == Exit.PLUGIN
    assert "RuntimeError: broken" in err
    code, _, err = command("lst-plugins")
    assert code == Exit.USAGE
    assert "'list-plugins'" in err


@pytest.mark.parametrize(("commands", "said"), [
    ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
    ("x = 1", "has no attribute 'greet'"),
    ("greet = 1", "fake_greet_commands:greet is no function"),
    ("def greet(x: object): ...", "cannot be made a command"),
    ("raise SystemExit(0)", "SystemExit"),
])  # fmt: skip
def test_a_command_that_cannot_be_had_names_its_plugin(folder, command, commands, said):
    offer(folder, commands=commands)
    code, out, err = command("greet", "you")
    assert (code, out) == (Exit.PLUGIN, "")
    assert "command 'greet' of fake-greet 1.2" in err
    assert said in err


def test_of_two_commands_of_a_name_each_has_its_qualified_one(folder, command):
    offer(folder, "fake-one")
    offer(folder, "fake-two")
    code, _, err = command("greet", "you")
    assert code == Exit.PLUGIN
    assert "one of fake-one:greet, fake-two:greet" in err
    assert command("fake-two:greet", "you")[:2] == (0, "hello you \n")
    out = command("--help")[1]
    assert "fake-one:greet" in out
    assert "fake-two:greet" in out


def test_a_built_in_command_is_never_taken(folder, command):
    offer(folder, "fake-show", "show")
    assert command("show", "train")[0] == 0
    assert command("fake-show:show", "you")[:2] == (0, "hello you \n")
    (row,) = [row for row in json.loads(command("list-plugins", "--json")[1]) if row["kind"] == "command"]
    assert (row["name"], row["distribution"], row["status"], row["reason"]) == (
        "show", "fake-show", "clash", "say fake-show:show")


def test_list_plugins_tells_who_listens_to_what(folder, command):
    install(folder, "fake-log", "from seg import hookimpl\n@hookimpl\ndef seg_epoch_ended(row):\n    pass\n"
            "@hookimpl\ndef seg_run_ended():\n    pass\n")
    rows = json.loads(command("list-plugins", "--json")[1])
    assert ("hooks", "fake-log", "seg_epoch_ended, seg_run_ended") in [
        (row["kind"], row["name"], row["summary"]) for row in rows]


def test_a_built_in_command_looks_for_no_plugins():
    code = "import sys, seg_cli.main; seg_cli.main.execute(['run', '--help']); print('seg.discovery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("words", [("--plugin", "nowhere.py", "--help"), ("--no-plugin", "nobody", "--help")])
def test_help_is_given_where_plugins_cannot_be_looked_for(command, words):
    code, out, _ = command(*words)
    assert code == 0
    assert "list-plugins" in out
    assert words[1].removesuffix(".py") in out

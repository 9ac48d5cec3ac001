"""What plugins may import is written down, and no signature of it changes without a word in CHANGELOG.md."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import seg
from seg import hookspecs
from seg.hookspecs import COMMANDS, EVENTS, KINDS

DOCS = Path(__file__).parents[1] / "docs"
HOW = 'run `python docs/make_public_api.py "what changed, and what a plugin has to do"`'


def load():
    spec = importlib.util.spec_from_file_location("make_public_api", DOCS / "make_public_api.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_public_api"] = module  # attrs looks there
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["make_public_api"]
    return module


@pytest.fixture(scope="module")
def made():
    return load()


@pytest.fixture
def package(tmp_path):
    """Writes a small `seg` of its own, and gives its public API."""
    def write(root="", **modules):
        modules = {"hookspecs": "", **modules}
        (tmp_path / "seg").mkdir(exist_ok=True)
        (tmp_path / "seg/__init__.py").write_text(root)
        for name, text in modules.items():
            (tmp_path / f"seg/{name}.py").write_text(text)
        return load().public_api(tmp_path).splitlines()

    return write


def test_the_public_api_is_current(made):
    assert made.public_api() == (DOCS / "public-api.txt").read_text(encoding="utf-8"), (
        f"the signature of a public name or hook changed; {HOW}")


def test_the_changelog_says_what_changed(made):
    code = made.digest((DOCS / "public-api.txt").read_text(encoding="utf-8"))
    changelog = made.CHANGELOG.read_text(encoding="utf-8")
    assert made.said(changelog) == code, (
        f"the topmost section of CHANGELOG.md must have a line '- Public API `{code}`: …'; {HOW}")


def test_every_public_name_has_its_line(made):
    named = set(re.findall(r"^(?:class )?seg\.(\w+)(?=[( =]|$)", made.public_api(), flags=re.MULTILINE))
    assert named >= set(seg.__all__)


def test_every_hook_has_its_line_with_its_arguments(made):
    lines = dict(re.findall(r"^hook (\w+)\((.*)\) ->", made.public_api(), flags=re.MULTILINE))
    assert set(lines) == {*KINDS.values(), COMMANDS, *EVENTS}
    for name, arguments in lines.items():
        code = getattr(hookspecs, name).__code__
        assert re.findall(r"(\w+): ", arguments) == list(code.co_varnames[:code.co_argcount])


def test_names_are_sorted_and_imports_followed(package):
    lines = package('from seg.b import two\nfrom seg.a import One\nX = 3\n__all__ = ["two", "X", "One"]\n',
                    a="from seg.b import One\n", b="class One: ...\ndef two(): ...\n")
    assert lines == ["class seg.One", "seg.X = 3", "seg.two()"]


@pytest.mark.parametrize(("source", "line"), [
    ("def f(a, /, b: int = 1, *c: str, d, e: dict[str, int] | None = None, **g: float) -> None: ...",
     "seg.f(a, /, b: int = 1, *c: str, d, e: dict[str, int] | None = None, **g: float) -> None"),
    ("def f(a=1, *, b=2): ...", "seg.f(a=1, *, b=2)"),
    ("def f(\n    a: tuple[int,\n             ...],\n) -> 'X': ...", "seg.f(a: tuple[int, ...]) -> 'X'")])
def test_functions_are_as_the_source_writes_them(source, line, package):
    assert package(source + '\n__all__ = ["f"]\n') == [line]


def test_classes_have_fields_methods_and_properties_but_nothing_private(package):
    lines = package("""
@frozen(kw_only=True)
class A(Protocol):
    x: int
    y: float = field(default=1.5, validator=ge(0))
    z: dict[str, int] = field(factory=dict)
    w: str = option("a", "help that may change", choices=("a", "b"))
    _hidden: int = 0
    ONE = 1
    @property
    def p(self) -> int: ...
    def m(self, a: int) -> str: ...
    def _n(self) -> None: ...
    def __eq__(self, other): ...
    def __init__(self, q: int) -> None: ...
__all__ = ["A"]
""")
    assert lines == [
        "class seg.A(Protocol)  @frozen(kw_only=True)", "  seg.A.x: int", "  seg.A.y: float = 1.5",
        "  seg.A.z: dict[str, int] = dict()", '  seg.A.w: str = "a"', "  seg.A.ONE = 1",
        "  seg.A.p(self) -> int  @property", "  seg.A.m(self, a: int) -> str", "  seg.A.__init__(self, q: int) -> None"]


def test_what_changes_no_signature_changes_nothing(package):
    before = package('def f(a: int) -> int:\n    return a\n__all__ = ["f"]\n')
    after = package('import os\n\ndef g(): ...\n\ndef f(\n    a: int,\n) -> int:\n    """Says."""\n__all__ = ["f"]\n')
    assert before == after


def test_the_module_for_tests_of_plugins_counts_where_it_is_there(package):
    assert "seg.testing.check(a: int)" in package("__all__ = []", testing="def check(a: int): ...\ndef _own(): ...\n")
    assert package("__all__ = []", testing='from seg.a import f\n__all__ = ["f"]\n', a="def f(): ...\n") == [
        "seg.testing.f()"]


def test_a_name_that_is_nowhere_is_told(package):
    with pytest.raises(LookupError, match=r"seg\.gone"):
        package('__all__ = ["gone"]\n')


def test_the_sentence_goes_into_the_topmost_section_once(made):
    old = "# Changes\n\n## 2.0\n\nNew.\n\n- One.\n\n## 1.0\n\n- Public API `00000000`: the first.\n"
    assert made.said(old) is None
    once = made.say(old, "12345678", "more.")
    assert once == old.replace("- One.\n", "- One.\n- Public API `12345678`: more.\n")
    assert made.said(once) == "12345678"
    assert made.say(once, "87654321", "other.") == once.replace("12345678`: more.", "87654321`: other.")
    assert made.say("## 1\n\n- One.\n", "12345678", "x.") == "## 1\n\n- One.\n- Public API `12345678`: x.\n"


def test_a_digest_without_words_is_no_sentence(made):
    assert made.said("# C\n\n## 1\n\n- Public API `12345678`:\n") is None

"""A new plugin from templates: a whole package with one working component, its tests and its continuous integration."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from seg.errors import SegError, nearest, usage_error
from seg.files import write_text
from seg.hookspecs import COMMANDS, KINDS

HOOKS = {**KINDS, "command": COMMANDS, "logger": ""}
"""What a new plugin may be: a component of a kind, a command, or a listener to what happens in a run."""

SUMMARIES = {
    "architecture": "A small U-Net.",
    "augmenter": "Mirrored and brighter or darker patches.",
    "command": "A command of seg.",
    "ensembler": "Every configuration that is nearly as good as the best.",
    "executor": "Processes that give way to others.",
    "exporter": "The weights as NumPy arrays.",
    "fingerprinter": "Sizes, spacings, intensities of the foreground.",
    "layout": "Folders of scans and annotations.",
    "logger": "What happens in a run, in tables of its own.",
    "loss": "The focal loss.",
    "metric": "The Jaccard index.",
    "normaliser": "Median 0, interquartile range 1.",
    "planner": "The median spacing and the largest patch up to a limit.",
    "postprocessor": "Small components become background.",
    "recipe": "AdamW and half a cosine.",
    "sampler": "Half of all patches on foreground.",
}
FILES = {
    "pyproject.toml": "pyproject.toml.j2",
    "README.md": "README.md.j2",
    "LICENSE": "LICENSE.j2",
    ".gitignore": "gitignore.j2",
    ".github/workflows/ci.yml": "ci.yml.j2",
    "src/{module}/__init__.py": "init.py.j2",
    "tests/test_{kind}.py": "test.py.j2",
}
PREFIXES = ("segplug-", "seg-")
OURS = re.compile(r"seg|segplug|seg_.*")
_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def new_plugin(name: str, kind: str, parent: Path, use: str = "") -> tuple[Path, ...]:
    """Write the package `name` into the new folder `parent/name`.

    Args:
        name: of the distribution, for example `segplug-attention`. Its module has underscores for dashes and dots, its
            component the name without `segplug-`.
        kind: a kind of component, "command", or "logger".
        parent: where the folder goes; made if it is not there.
        use: the command by which the component is used, for the README.

    Returns:
        The files, in order of their paths.

    Raises:
        SegError: the name is none, or ours, the kind is unknown, the folder is there already (exit 2); the disk is full
            or not writable (exit 5).
    """
    from jinja2 import Environment, PackageLoader

    words = _words(name, kind, use)
    folder = parent / name
    if folder.exists():
        raise usage_error("the folder is there already", expected="a new one", file=str(folder),
                          advice="Choose another name, or another place with -o.")
    pages = Environment(loader=PackageLoader("seg", "templates/plugin"), autoescape=False,  # noqa: S701 - no HTML
                        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    files = [folder / f"src/{words['module']}/py.typed"]
    write_text(files[0], "")
    for path, template in _files(kind).items():
        files.append(folder / path.format(**words))
        write_text(files[-1], pages.get_template(template).render(words).rstrip("\n") + "\n")
    return tuple(sorted(files))


def short_name(name: str) -> str:
    """The name of the component of a distribution: without the prefix, underscores for dashes and dots."""
    short = next((name[len(prefix):] for prefix in PREFIXES if name.startswith(prefix)), name)
    return re.sub(r"[-.]+", "_", short)


def _files(kind: str) -> dict[str, str]:
    """Path → template."""
    files = dict(FILES)
    if kind != "logger":
        files["src/{module}/{kind}.py"] = f"kinds/{kind}.py.j2"
    if kind == "architecture":
        files["src/{module}/network.py"] = "kinds/network.py.j2"
    return files


def _words(name: str, kind: str, use: str) -> dict[str, Any]:
    """What the templates are filled with."""
    if kind not in HOOKS:
        raise usage_error(f"no kind is called {kind!r}", expected="one of " + ", ".join(sorted(HOOKS)),
                          advice=nearest(kind, list(HOOKS)))
    module, short = re.sub(r"[-.]+", "_", name).lower(), short_name(name).lower()
    if not _NAME.fullmatch(name) or not (_usable(module) and _usable(short)):
        raise _refused(name, "letters, digits and dashes, a letter first, no word of Python; for example "
                             "segplug-attention")
    if OURS.fullmatch(module) or module in sys.stdlib_module_names or module in ("torch", "numpy", "attrs", "typer"):
        raise _refused(name, f"a name whose module {module} is nobody's; for example segplug-{short}")
    title = "".join(word.capitalize() for word in short.split("_"))
    ours = kind in KINDS
    return {
        "name": name, "kind": kind, "module": module, "short": short, "cls": title, "is_component": ours,
        "target": title if ours else short, "hook": HOOKS[kind], "summary": SUMMARIES[kind], "api": _api(),
        "use": use or (f"seg show {kind} {short}" if ours else "seg list-plugins"),
    }


def _usable(word: str) -> bool:
    return word.isidentifier() and not keyword.iskeyword(word)


def _refused(name: str, expected: str) -> SegError:
    return usage_error(f"the name {name!r}", expected=expected)


def _api() -> str:
    """The versions of seg that the plugin is for: this one and later ones, up to the next that may change names."""
    major, minor = version("segplug").split(".")[:2]
    return f">={major}.{minor},<{int(major) + 1}"

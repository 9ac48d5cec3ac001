"""Write `docs/public-api.txt` from the sources: every name that programs and plugins may use, with its signature.

`python docs/make_public_api.py` writes the file. `python docs/make_public_api.py "what changed, and what to do"` also
puts the sentence with the file's digest into the topmost section of CHANGELOG.md, in place of one that is there. A test
compares all three, so no public signature changes unsaid.

Nothing is imported: annotations and defaults are as the sources have them, whatever the version of Python.
"""

# ruff: noqa: INP001, T201 - a script, no package

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[1]
TARGET = Path(__file__).with_name("public-api.txt")
CHANGELOG = ROOT / "CHANGELOG.md"
MODULES = ("seg", "seg.testing")  # what a plugin may import; the second one where it is there
DIGITS = 8
SAID = re.compile(rf"^- Public API `([0-9a-f]{{{DIGITS}}})`: \S.*(?:\n  .*)*$", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@frozen
class Source:
    """A module of ours: its text and its tree."""

    text: str
    tree: ast.Module

    def write(self, node: ast.AST) -> str:
        """A part of it as it was written, on one line."""
        return " ".join((ast.get_source_segment(self.text, node) or "").split())

    def find(self, name: str) -> ast.stmt | None:
        """The definition of a name at the top of the module, or the import that brings it."""
        return next((node for node in _statements(self.tree) if name in _names(node)), None)


def public_api(root: Path = ROOT / "core") -> str:
    """The text of `public-api.txt`, from the sources in the folder `root`."""
    lines: list[str] = []
    for module in MODULES:
        if _file(root, module) is not None:
            source = _source(root, module)
            lines += [line for name in _exported(source) for line in _described(root, module, name, f"{module}.{name}")]
    lines += _hooks(_source(root, "seg.hookspecs"))
    return "\n".join(lines) + "\n"


def digest(text: str) -> str:
    """What CHANGELOG.md says of it."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def topmost(changelog: str) -> str:
    """The topmost section of CHANGELOG.md."""
    return re.split(r"^## ", changelog, flags=re.MULTILINE)[1]


def said(changelog: str) -> str | None:
    """The digest that the topmost section names, with words about it; None where it names none."""
    found = SAID.search(topmost(changelog))
    return found[1] if found else None


def say(changelog: str, code: str, words: str) -> str:
    """`changelog` with the sentence in its topmost section."""
    section, line = topmost(changelog), f"- Public API `{code}`: {words}"
    if SAID.search(section):
        changed = SAID.sub(lambda _: line, section, count=1)
    else:
        body = section.rstrip("\n")
        changed = f"{body}\n{line}" + (section[len(body):] or "\n")
    return changelog.replace(section, changed, 1)


def _described(root: Path, module: str, name: str, shown: str) -> Iterator[str]:
    """The lines of one name; imports are followed to where it is defined."""
    source = _source(root, module)
    node = source.find(name)
    if isinstance(node, ast.ImportFrom) and node.module:
        yield from _described(root, node.module, name, shown)
    elif isinstance(node, Function):
        yield shown + _signature(node, source)
    elif isinstance(node, ast.ClassDef):
        yield from _class(node, source, shown)
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        yield f"{shown} = {source.write(node.value)}"
    else:
        raise LookupError(f"{shown} is not defined in {module}")


def _class(node: ast.ClassDef, source: Source, shown: str) -> Iterator[str]:
    """A class with its bases and decorators, its fields, its public methods and properties."""
    bases = ", ".join(source.write(base) for base in node.bases)
    decorators = "".join(f"  @{source.write(each)}" for each in node.decorator_list)
    yield f"class {shown}" + (f"({bases})" if bases else "") + decorators
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and _is_public(item.target.id):
            yield f"  {shown}.{item.target.id}: {source.write(item.annotation)}{_default(item.value, source)}"
        elif isinstance(item, ast.Assign):
            yield from (f"  {shown}.{target.id} = {source.write(item.value)}" for target in item.targets
                        if isinstance(target, ast.Name) and _is_public(target.id))
        elif isinstance(item, Function) and (_is_public(item.name) or item.name in ("__init__", "__call__")):
            marks = "".join(f"  @{source.write(each)}" for each in item.decorator_list)
            yield f"  {shown}.{item.name}{_signature(item, source)}{marks}"


def _default(value: ast.expr | None, source: Source) -> str:
    """The default of a field; of `field(...)` the default or the factory."""
    if value is None:
        return ""
    if not (isinstance(value, ast.Call) and source.write(value.func) in ("field", "attrs.field", "option")):
        return f" = {source.write(value)}"
    given = {item.arg: source.write(item.value) for item in value.keywords}
    if value.args:
        given["default"] = source.write(value.args[0])
    return f" = {given['default']}" if "default" in given else f" = {given['factory']}()" if "factory" in given else ""


def _signature(node: Function, source: Source) -> str:
    """The arguments with annotations and defaults, and what is returned."""
    found = node.args
    defaults: list[ast.expr | None] = [None] * (len(found.posonlyargs) + len(found.args) - len(found.defaults))
    places = list(zip([*found.posonlyargs, *found.args], [*defaults, *found.defaults], strict=True))
    parts = [_argument(argument, default, source) for argument, default in places]
    if found.posonlyargs:
        parts.insert(len(found.posonlyargs), "/")
    if found.vararg:
        parts.append("*" + _argument(found.vararg, None, source))
    elif found.kwonlyargs:
        parts.append("*")
    parts += [_argument(argument, default, source)
              for argument, default in zip(found.kwonlyargs, found.kw_defaults, strict=True)]
    if found.kwarg:
        parts.append("**" + _argument(found.kwarg, None, source))
    return f"({', '.join(parts)})" + (f" -> {source.write(node.returns)}" if node.returns else "")


def _argument(argument: ast.arg, default: ast.expr | None, source: Source) -> str:
    note = f": {source.write(argument.annotation)}" if argument.annotation else ""
    equals = " = " if note else "="
    return argument.arg + note + (f"{equals}{source.write(default)}" if default else "")


def _hooks(source: Source) -> list[str]:
    return [f"hook {node.name}{_signature(node, source)}" for node in source.tree.body
            if isinstance(node, Function) and node.name.startswith("seg_")]


def _exported(source: Source) -> list[str]:
    """The names in `__all__`, sorted; without one, all public definitions."""
    found = source.find("__all__")
    if isinstance(found, ast.Assign):
        return sorted(ast.literal_eval(found.value))
    return sorted(node.name for node in source.tree.body
                  if isinstance(node, Function | ast.ClassDef) and _is_public(node.name))


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """What stands at the top of a module, and in its `if TYPE_CHECKING`."""
    for node in tree.body:
        yield from node.body if isinstance(node, ast.If) else [node]


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, Function | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _file(root: Path, module: str) -> Path | None:
    path = root.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


@cache
def _source(root: Path, module: str) -> Source:
    file = _file(root, module)
    if file is None:
        raise LookupError(f"no module {module} in {root}")
    text = file.read_text(encoding="utf-8")
    return Source(text, ast.parse(text))


def main(words: list[str]) -> None:
    """Write the file; with words, the sentence in CHANGELOG.md too."""
    text = public_api()
    TARGET.write_text(text, encoding="utf-8")
    code, changelog = digest(text), CHANGELOG.read_text(encoding="utf-8")
    if words:
        CHANGELOG.write_text(say(changelog, code, " ".join(words)), encoding="utf-8")
    elif said(changelog) != code:
        print(f"The public API changed. Say how in the topmost section of CHANGELOG.md:\n- Public API `{code}`: …")


if __name__ == "__main__":
    main(sys.argv[1:])

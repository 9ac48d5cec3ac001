"""Installed plugins as their metadata describe them, before anything of them is imported; and plugins of one file."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import field, frozen

from seg.choice import OURS, normal
from seg.errors import tell
from seg.hookspecs import GROUP


@frozen(kw_only=True)
class Installed:
    """One entry point: where it comes from, which `segplug` it asks for, and why it cannot be used, if so.

    `broken` is damage of the metadata, `refused` an API version that is not met. Of a plugin of one file `file` is its
    path; its distribution is `file:` and its name, its version a digest of the content, so that it may be moved.
    """

    name: str
    value: str
    distribution: str
    version: str
    location: str = ""  # the folder of the installation
    requires: str = ""
    broken: str = ""
    refused: str = ""
    file: Path | None = None
    entry: EntryPoint | None = field(default=None, eq=False)

    def load(self) -> Any:
        """Import the light module; raises whatever it raises."""
        if self.file is not None:
            return load_file(self.file)
        if self.entry is None:
            raise ImportError(self.broken)
        return self.entry.load()


def installed() -> list[Installed]:
    """Every entry point of the group `seg`: ours first, then by distribution, name and value.

    Each distribution is read by itself, since one that is damaged must not hide the others. Of one that lies on the
    path twice the first counts, since that is the one Python imports.
    """
    found: dict[tuple[str, str, str], Installed] = {}
    first: dict[str, str] = {}
    for distribution in _distributions():
        for plugin in _plugins(distribution):
            name = normal(plugin.distribution)
            if first.setdefault(name, plugin.location) == plugin.location or name == UNKNOWN:
                found.setdefault((name, plugin.name, plugin.value), plugin)
    return sorted(found.values(), key=lambda item: (item.distribution != OURS, item.distribution, item.name,
                                                    item.value))


UNKNOWN = "unknown"


def _distributions() -> Iterator[Distribution]:
    for distribution in distributions():
        with suppress(Exception):
            if "seg" in (distribution.read_text("entry_points.txt") or ""):
                yield distribution


def _plugins(distribution: Distribution) -> Iterator[Installed]:
    name, number, requires, fault = UNKNOWN, "0", "", ""
    location = str(distribution.locate_file(""))
    try:  # the metadata are parsed anew at each look
        metadata = distribution.metadata
        name, number = metadata["Name"] or UNKNOWN, metadata["Version"] or "0"
        requires = _required(metadata.get_all("Requires-Dist") or distribution.requires or ())
    except Exception as error:  # noqa: BLE001 - damage has many forms
        fault = tell(error)
    origin: dict[str, Any] = {"distribution": name, "version": number, "location": location, "requires": requires}
    try:
        entries = distribution.entry_points.select(group=GROUP)
    except Exception as error:  # noqa: BLE001
        if f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or ""):
            yield Installed(name=name, value="", broken=f"entry_points.txt cannot be read: {tell(error)}", **origin)
        return
    for entry in entries:
        yield Installed(name=entry.name, value=entry.value, entry=entry, refused=_refusal(requires),
                        broken=f"its metadata cannot be read: {fault}" if fault else "", **origin)


def _required(lines: Iterable[str]) -> str:
    """What is asked of `segplug`, as "segplug>=1,<2"; empty where any will do."""
    asked = []
    for line in lines:
        if line == OURS or not re.match(rf"{OURS}(?![\w.-]*\w)", line, flags=re.IGNORECASE):
            continue
        from packaging.requirements import InvalidRequirement, Requirement  # costs 10 ms

        with suppress(InvalidRequirement):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                asked += [str(part) for part in requirement.specifier]
    return OURS + ",".join(sorted(asked, reverse=True)) if asked else ""


def _refusal(requires: str) -> str:
    """Why a plugin that asks for `requires` cannot be used here; empty if it can."""
    if not requires:
        return ""
    from packaging.requirements import Requirement

    here = our_version()
    fits = Requirement(requires).specifier.contains(here, prereleases=True)
    return "" if fits else f"needs {requires}, this is {here}"


def our_version() -> str:
    """The version of `seg`, which plugins ask for."""
    with suppress(PackageNotFoundError):
        return version(OURS)
    return "0"


def local(files: Sequence[Path]) -> list[Installed]:
    """The plugins of one Python file each; copies of one under its name count once.

    Raises:
        OSError: a file cannot be read.
    """
    found: dict[tuple[str, str], Installed] = {}
    for file in (file.resolve() for file in files):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        plugin = Installed(name=file.stem, value=str(file), distribution=f"file:{file.name}", version=digest, file=file)
        found.setdefault((file.name, digest), plugin)
    return list(found.values())


def load_file(file: Path) -> ModuleType:
    """The module of a plugin of one file, under a name that says path and content: `seg_local_<stem>_<digest>`.

    So its offers can name its own classes, by f"{__name__}:MyNet", and no other module is shadowed. Raises whatever
    the file raises.
    """
    digest = hashlib.sha256(f"{file}\0".encode() + file.read_bytes()).hexdigest()[:8]
    name = f"seg_local_{re.sub(r'[^0-9A-Za-z_]', '_', file.stem)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def all_distributions() -> str:
    """Digest of the names of all distributions on the path: it changes when one is installed, upgraded or removed."""
    names: list[str] = []
    for folder in dict.fromkeys(sys.path):
        with suppress(OSError):
            names += sorted(item.name for item in Path(folder or ".").iterdir()
                            if item.suffix in (".dist-info", ".egg-info"))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def files_of(value: str) -> str:
    """Digest of names, times and sizes of the files of an entry point's package, found without importing it."""
    files: list[Path] = []
    with suppress(ImportError, OSError, ValueError, AttributeError):
        spec = importlib.util.find_spec(re.split(r"[.:\s]", value)[0])
        if spec and spec.submodule_search_locations:
            folders = [Path(folder) for folder in spec.submodule_search_locations]
            files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".so", ".pyd")]
        elif spec and spec.origin:
            files = [Path(spec.origin)]
    digest = hashlib.sha256()
    for file in sorted(files):
        with suppress(OSError):
            facts = file.stat()
            digest.update(f"{file} {facts.st_mtime_ns} {facts.st_size}\n".encode())
    return digest.hexdigest()

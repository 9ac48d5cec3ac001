"""Write `docs/reference.md` from the code: hooks, kinds, options, settings, exit codes, fault codes.

Run `python docs/make_reference.py` whenever one of these changes; a test compares the two.
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

import seg
import seg.testing
from seg import hookspecs
from seg.discovery import discover
from seg.errors import Exit
from seg.kinds import INTERFACES, LabelledEnsembler, Prunable
from seg.models import Configuration, Topology
from seg.options import describe
from seg.registry import load_class
from seg.settings import GROUPS, Settings
from seg.stages import check
from seg.training_kinds import PartedCriterion, RemoteExecutor

TARGET = Path(__file__).with_name("reference.md")

EXITS = {
    Exit.DONE: "done",
    Exit.BUG: "a bug of seg; `--debug` shows its place",
    Exit.USAGE: "a mistake on the command line or in settings",
    Exit.DATA: "the data are refused",
    Exit.PARTLY: "done in part; the rest is named",
    Exit.RESOURCES: "disk, memory or device; the folder is in use",
    Exit.PLUGIN: "a plugin is broken, clashes, is absent, or does not deliver",
    Exit.UNSAFE: "refused for safety: a model whose content is not what it should be",
}

CODES = {
    "SEG-C01": "a mistake on the command line or in an argument",
    "SEG-C02": "a value of the wrong type, or an unknown or missing key, in a file or in settings",
    "SEG-C03": "a JSON or TOML file is not there or cannot be read",
    "SEG-C04": "an unknown option, table or key; the nearest right one is named",
    "SEG-C05": "no kind, component or plugin of that name",
    "SEG-C06": "nothing to predict there, no such device, or a format that label maps are not written in",
    "SEG-C07": "the run folder was made with other settings or other cases",
    "SEG-C08": "no run folder, or a stage before this one is not done",
    "SEG-C09": "a file of folds is none, or a plan asks for a normalisation that cannot be done",
    "SEG-D22": "a fingerprint of another number of channels than the data set has, or of images that lie otherwise",
    "SEG-D23": "a file of folds names unknown cases, a case or a group for both training and validation, or nothing "
               "for one of them; a warning where it parts cases of the same image",
    "SEG-D24": "a channel of `rgb_to_0_1` leaves 0 to 255",
    "SEG-D30": "a file of the case store is damaged",
    "SEG-D31": "a case is not in the case store",
    "SEG-D32": "the case store lacks cases, or holds stale ones",
    "SEG-D33": "the previous stage of a cascade has not predicted every case",
    "SEG-D40": "two folders cannot be compared: no files, or a prediction without a truth (warning: the reverse)",
    "SEG-D60": "the images are too small for an encoder-decoder",
    "SEG-M01": "a file of a model is not what the manifest says",
    "SEG-M02": "weights that do not fit their plan",
    "SEG-M03": "weights that are no numbers",
    "SEG-M04": "the network gave values that are no numbers",
    "SEG-M05": "a model of another format",
    "SEG-M06": "steps of post-processing that nothing here does",
    "SEG-M07": "a checkpoint of nnU-Net that is damaged, or asks for more than data; nothing of it was run",
    "SEG-M08": "a model of nnU-Net that cannot be imported: a cascade, an unknown network, folds that differ",
    "SEG-M09": "what an import from nnU-Net left out or cannot know (note, warning)",
    "SEG-P01": "the plugin that was asked for is broken, or made for another version of seg",
    "SEG-P02": "two plugins offer a component of this name; say `distribution:name`",
    "SEG-P03": "a component or command cannot be imported, is not of its kind, or does not do what its kind promises; "
               "so does a plugin on a plan",
    "SEG-P04": "a model needs a plugin, or an exporter a package, that is not installed; the `pip install` is named",
    "SEG-P05": "what a fingerprinter or planner made does not fit together",
    "SEG-P06": "a plugin failed in a hook of a run, which goes on without it (warning)",
    "SEG-P10": "a component gave what its kind does not promise, or failed; plugin, version and hook are named",
    "SEG-P11": "a model or a training was made with another version of a plugin (warning), or cannot go on with it",
    "SEG-R01": "the disk is full, too small, or not writable",
    "SEG-R02": "another process works in this folder",
    "SEG-R03": "no such device in this machine",
    "SEG-R04": "not enough memory for a case",
    "SEG-R05": "no patch fits the memory that the planner may use",
    "SEG-R06": "too little room for the preprocessed cases",
    "SEG-R07": "neither the memory nor the disk for temporary files has room for the maps of a case",
    "SEG-R08": "no jobs can be submitted from this machine, or no cluster is there, or it has not what they need",
    "SEG-R09": "the memory of the device, or of the machine, is too small for a training",
    "SEG-R10": "cases that are not read in time, as from a drive that does not answer",
    "SEG-R11": "the device failed or is gone; what was saved or written before is kept",
    "SEG-T01": "losses that are no numbers",
    "SEG-T02": "a training in a process of its own failed, was stopped or killed; its log says more",
    "SEG-T10": "a member of a comparison failed unexpectedly; the others went on",
}
"""Fault codes beside those of the data check, whose table stands in `seg.stages.check`."""

EXCHANGED = ("CaseIndex", "Position", "CaseArrays", "Batch", "Candidate")


def reference() -> str:
    """The text of `reference.md`."""
    parts = [_head(), _hooks(), _kinds(), _components(), _settings(), _exits(), _codes(), _names(),
             _checks()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def fault_codes() -> dict[str, str]:
    """Every documented fault code and what it says."""
    rows = re.findall(r"^\| (SEG-D\d\d) \| (.+) \|$", inspect.getdoc(check) or "", flags=re.MULTILINE)
    return dict(sorted({**CODES, **dict(rows)}.items()))


def _head() -> str:
    return ("# Reference\n\nMade from the code by `python docs/make_reference.py`; do not edit. Array axes are "
            "(C, Z, Y, X), batches (B, C, Z, Y, X), spacings in mm.")


def _hooks() -> str:
    kinds = {hook: kind for kind, hook in hookspecs.KINDS.items()}
    rows = [(f"`{hook}`", kind, _plain(getattr(hookspecs, hook))) for hook, kind in kinds.items()]
    rows.append((f"`{hookspecs.COMMANDS}`", "–", _plain(getattr(hookspecs, hookspecs.COMMANDS))))
    head = ("A plugin is a light module, named by an entry point in the group `seg`, with some of these. Each yields "
            '`seg.Offer(name, "module:Class", summary)`.')
    events = ("Called while a run goes on, one at a time. They take whichever of the arguments they name. One that "
              "fails is said and otherwise ignored; only a failure of `seg_plan_made` stops a run.")
    text = ["## Hooks", head, _table(("hook", "kind", "what"), rows), "### Hooks of a run", events]
    for hook in hookspecs.EVENTS:
        found = getattr(hookspecs, hook)
        text.append(f"`{_signature(hook, found)}`\n\n{_markdown(found)}")
    return "\n\n".join(text)


def _kinds() -> str:
    text = ["## Kinds", "Whatever has these methods is a component of the kind; no base class is needed."]
    for kind, interface in {**INTERFACES, "an architecture, if it likes": Prunable,
                            "an ensembler, if it likes": LabelledEnsembler,
                            "the criterion of a loss, if it likes": PartedCriterion,
                            "an executor, if it likes": RemoteExecutor}.items():
        text.append(f"### {kind}: `seg.{interface.__name__}`\n\n{_markdown(interface)}")
        notes = {name: note for name, note in vars(interface).get("__annotations__", {}).items() if name[0] != "_"}
        text += [f"- `{name}: {note}`" for name, note in notes.items()]
        text += [f"`{_signature(name, method)}`\n\n{_markdown(method)}" for name, method in _methods(interface)]
    text.append("### What they exchange")
    classes = [getattr(seg.kinds, name) for name in EXCHANGED] + [Topology, Configuration]
    for found in classes:
        fields = ", ".join(f"`{field.name}`" for field in attrs.fields(found))
        text.append(f"**`{found.__name__}`** {_markdown(found)}\n\nFields: {fields}.")
    return "\n\n".join(text)


def _components() -> str:
    how = "`--set KIND.OPTION=VALUE`, or a table `[KIND]` in a settings file. `seg show KIND NAME` prints the same."
    text = ["## Built-in components and their options", how]
    ours = [item for item in discover().components if item.plugin.distribution == "segplug"]
    for kind in hookspecs.KINDS:
        for item in sorted((item for item in ours if item.kind == kind), key=lambda item: item.name):
            text.append(f"### {kind} `{item.name}`\n\n{item.summary}")
            text.append(_options(load_class(item), kind))
    return "\n\n".join(text)


def _settings() -> str:
    text = ["## Settings", "In a file for `--settings`; all tables but `[run]` also by `--set`."]
    groups = (*GROUPS, "options")
    rows = [(f"`{item.name}`", f"`{item.type}`") for item in describe(Settings) if item.name not in groups]
    text.append("### `[run]`\n\n" + _table(("key", "type"), rows))
    text += [f"### `[{name}]`\n\n{_plain(group)}\n\n{_options(group, name)}" for name, group in GROUPS.items()]
    return "\n\n".join(text)


def _exits() -> str:
    rows = [(str(int(code)), meaning) for code, meaning in EXITS.items()]
    rows.append(("130, 143", "stopped by a signal; what was finished is kept"))
    return "## Exit codes\n\n" + _table(("code", "meaning"), rows)


def _codes() -> str:
    rows = [(code, meaning) for code, meaning in fault_codes().items()]
    areas = "The letter is the area: C configuration, D data, M model, P plugin, R resource, T training."
    return f"## Fault codes\n\n{areas}\n\n" + _table(("code", "fault"), rows)


def _names() -> str:
    rows = [(f"`seg.{name}`", _plain(getattr(seg, name))) for name in seg.__all__ if name != "hookimpl"]
    return "## Public names\n\nAll that plugins and programs may import.\n\n" + _table(("name", "what"), rows)


def _checks() -> str:
    names = [(f"`seg.testing.{name}`", _plain(getattr(seg.testing, name))) for name in seg.testing.__all__]
    rows = [(f"`{check.id}`", check.reason) for kind in hookspecs.KINDS for check in seg.testing.checks(kind)
            if not check.id.endswith("-component")]
    common = seg.testing.checks("loss")[0].reason
    return ("## Test kit\n\n" + _table(("name", "what"), names) + "\n\nThe checks of each kind. Every kind has "
            "`KIND-component` too: all methods are there, and it is a frozen attrs class whose options have defaults "
            f"and survive being stored. {common}\n\n" + _table(("check", "why"), rows))


def _options(found: type, where: str) -> str:
    rows = [(f"`{where}.{item.name}`", f"`{item.type}`", f"`{item.default}`", item.bounds, item.help)
            for item in describe(found)]
    return _table(("option", "type", "default", "bounds", "what"), rows) if rows else "No options."


def _methods(interface: type) -> Iterator[tuple[str, object]]:
    return ((name, value) for name, value in vars(interface).items() if inspect.isfunction(value) and name[0] != "_")


def _signature(name: str, method: object) -> str:
    text = str(inspect.signature(method)).replace("'", "")  # type: ignore[arg-type]
    return name + text.replace("(self, ", "(").replace("(self)", "()")


def _plain(found: object) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join(_doc(found).partition("\n\n")[0].split())


def _doc(found: object) -> str:
    """A docstring in which stars stay stars."""
    return re.sub(r"\*(?=\w)", r"\\*", inspect.getdoc(found) or "")


def _markdown(found: object) -> str:
    """A docstring as Markdown: the entries under `Raises:` and the like become lists."""
    lines = []
    for line in _doc(found).splitlines():
        inside = line.startswith("    ")
        lines.append(("- " if inside and line[4] != " " else "  " if inside else "") + line.strip())
        if re.fullmatch(r"[A-Z]\w+:", line):
            lines.append("")
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")

"""Everything a run was told, in one object: from defaults, a TOML file, `--set` and the command line, in this order.

The file has a table `[run]` for the settings of the run itself, one for each kind of component (its options), and
`[data]`, `[train]`, `[predict]`, `[metrics]`. `run.toml` of a run folder is such a file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from seg.convert import from_data, load_toml, to_data
from seg.errors import Exit, Record, SegError, nearest, usage_error
from seg.files import write_text
from seg.hookspecs import KINDS
from seg.models import orientation_code
from seg.options import fill, option, parse_value

AUTO = "auto"
WITHOUT_EFFECT = ("graph", "stall_s")  # on these options of a training no weights depend: one may go on with others


@frozen(kw_only=True)
class DataOptions:
    """How images are read."""

    reorient: str = option("", "turn every volume to this orientation, and predictions back; RAS: x, y, z grow to "
                           "the right, to the front, to the head; empty: as they lie")

    def __attrs_post_init__(self) -> None:
        orientation_code(self, attrs.fields(DataOptions).reorient, self.reorient)


@frozen(kw_only=True)
class TrainOptions:
    """How a network is trained, beside its loss and its recipe, which are components."""

    steps_per_epoch: int = option(250, "optimiser steps in an epoch", ge=1)
    clip_norm: float = option(12.0, "largest norm of the gradient; 0: any", ge=0)
    min_steps: int = option(1500, "with a budget, ask the planner for a smaller network below this many steps", ge=1)
    autocast: str = option("auto", "16-bit arithmetic; auto: where the device has bfloat16",
                           choices=("auto", "on", "off"))
    graph: str = option("auto", "on one CUDA device, start each step as one recorded CUDA graph; auto: where that is "
                        "measured to be faster; on: wherever it is right", choices=("auto", "on", "off"))
    stall_s: float = option(600.0, "seconds that a case, or a batch from the disk, is waited for; then the state "
                            "is saved and the run ends", ge=1)

    @property
    def deciding(self) -> dict[str, Any]:
        """Those of the options on which the weights depend, by name."""
        return {name: value for name, value in to_data(self).items() if name not in WITHOUT_EFFECT}


@frozen(kw_only=True)
class PredictOptions:
    """How whole cases are predicted."""

    step: float = option(0.5, "distance of neighbouring tiles as a part of the patch", ge=0.05, le=1)
    mirroring: bool = option(default=True, help="average over the mirror images of each tile")
    autocast: str = option("auto", "16-bit arithmetic; auto: where the device has bfloat16",
                           choices=("auto", "on", "off"))
    max_memory_gb: float = option(0.0, "memory that the maps of a case may take, in GB; beyond, they lie in a "
                                  "temporary file (in TMPDIR); 0: half of what is free", ge=0)
    stall_s: float = option(600.0, "seconds after which a case whose file cannot be read is left out, as on a drive "
                            "that does not answer; 0: never", ge=0)
    prune: str = option("", "a level of a network that contains smaller ones (L1, L2, …); auto: the smallest that "
                        "validates as well as the best; empty: all that the model holds")
    prune_tolerance: float = option(0.002, "with prune=auto, how far below the best mean Dice a level may be", ge=0)

    @property
    def settled(self) -> PredictOptions:
        """These options as one network needs them: what is left to validation is not asked of it."""
        return attrs.evolve(self, prune="" if self.prune == AUTO else self.prune, prune_tolerance=0.0)

    @property
    def deciding(self) -> PredictOptions:
        """Those of the settled options on which predictions depend."""
        return attrs.evolve(self.settled, max_memory_gb=0.0, stall_s=0.0)


@frozen(kw_only=True)
class MetricOptions:
    """How predictions are compared with the truth."""

    tolerance_mm: float = option(1.0, "tolerance of the surface Dice (NSD); pixels where there is no spacing", ge=0.01)
    also: tuple[str, ...] = option((), "further metrics beside Dice, HD95 and NSD: recall,lesion_f1 for example")


@frozen(kw_only=True)
class Settings:
    """The settings of a run. Empty texts and tuples mean: chosen by the program."""

    planner: str = "nnunet"
    architecture: str = ""
    fingerprinter: str = "nnunet"
    augmenter: str = "nnunet"
    sampler: str = "nnunet"
    ensembler: str = "nnunet"
    postprocessor: str = "nnunet"
    loss: str = "dice_ce"
    recipe: str = ""
    executor: str = "local"
    configurations: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()
    epochs: int = field(default=0, validator=attrs.validators.ge(0))
    budget_s: float = field(default=0.0, validator=attrs.validators.ge(0))
    device: str = "auto"
    seed: int = field(default=0, validator=attrs.validators.ge(0))
    labels: dict[str, int] = field(factory=dict)
    splits: str = ""
    plan: str = ""
    options: dict[str, dict[str, Any]] = field(factory=dict)
    data: DataOptions = field(factory=DataOptions)
    train: TrainOptions = field(factory=TrainOptions)
    predict: PredictOptions = field(factory=PredictOptions)
    metrics: MetricOptions = field(factory=MetricOptions)

    @property
    def chosen_recipe(self) -> str:
        """The recipe by name: without a word, `budget` with a budget of time, else `nnunet`."""
        return self.recipe or ("budget" if self.budget_s else "nnunet")

    def of(self, kind: str) -> dict[str, Any]:
        """The options set for the chosen component of a kind."""
        return self.options.get(kind, {})


GROUPS: dict[str, type] = {"data": DataOptions, "train": TrainOptions, "predict": PredictOptions,
                           "metrics": MetricOptions}

TABLES = tuple(kind for kind in KINDS if kind not in {"normaliser", "metric"})
"""The kinds whose options can be set; the others are chosen by several names, each with its defaults."""
LATER = ("ensembler", "postprocessor", "executor")
"""The kinds on which nothing depends that is trained; they may be others when a run goes on."""
MOVED = {"recipe": "A recipe is a component: --recipe NAME, or recipe in the table [run].",
         "learning_rate": "It is an option of the recipe: --set recipe.learning_rate=0.01 (see --recipe)."}
"""Names that are often looked for among the keys of a group, and where they are."""


def read_settings(file: Path | None, sets: list[str], given: dict[str, Any]) -> Settings:
    """Settings from a TOML file, `KIND.OPTION=VALUE` texts and what the command line gave, later ones winning.

    Raises:
        SegError: unknown tables or keys (with the nearest right one), wrong types, bad values (exit 2).
    """
    tables = _load_tables(file) if file else {}
    for text in sets:
        key, equals, value = text.partition("=")
        group, dot, name = key.strip().partition(".")
        if not (equals and dot and name):
            raise usage_error(f"--set {text!r}", expected="KIND.OPTION=VALUE, for example planner.vram_gb=11")
        _refuse_unknown([([group], [*TABLES, *GROUPS], "--set")])
        if group in GROUPS:
            _refuse_unknown([([name], [item.name for item in attrs.fields(GROUPS[group])], f"--set {group}")])
        tables.setdefault(group, {})[name] = parse_value(value.strip())
    run = {**tables.get("run", {}), **given}
    options = {kind: tables[kind] for kind in TABLES if kind in tables}
    filled = {name: fill(kind, tables.get(name, {}), name) for name, kind in GROUPS.items()}
    settings = from_data(run, Settings, file=str(file or "settings"))
    settings = attrs.evolve(settings, options=options, **filled)
    if settings.epochs and settings.budget_s:
        raise usage_error("both a number of epochs and a budget of time", expected="one of --epochs and --budget")
    return settings


def write_settings(path: Path, settings: Settings, extra: dict[str, Any]) -> None:
    """Write `settings` as TOML that `read_settings` reads back; `extra` tables stand as comments behind it."""
    import tomli_w

    data = to_data(settings)
    tables = {name: data.pop(name) for name in GROUPS}
    options = data.pop("options")
    text = tomli_w.dumps({"run": data, **{kind: value for kind, value in options.items() if value}, **tables})
    comment = tomli_w.dumps(extra) if extra else ""
    write_text(path, text + "".join(f"# {line}\n".replace("#  ", "# ") for line in comment.splitlines()))


def differences(old: Settings, new: Settings) -> list[str]:
    """What differs between two settings and would change the result of what `old` already made."""
    free = {"configurations", "folds", "device", "predict", "metrics", *LATER}
    a, b = (_without_choice(to_data(settings)) for settings in (old, new))
    return [f"{key}: {a[key]!r} then, {b[key]!r} now" for key in a if key not in free and a[key] != b[key]]


def _without_choice(data: dict[str, Any]) -> dict[str, Any]:
    """`data` without the options on which no training depends, of components and of the training itself."""
    options = {kind: values for kind, values in data["options"].items() if kind not in LATER}
    train = {name: value for name, value in data["train"].items() if name not in WITHOUT_EFFECT}
    return {**data, "options": options, "train": train}


def parse_duration(text: str) -> float:
    """Seconds from `90s`, `10m`, `1.5h` or `1h30m`.

    Raises:
        SegError: it is none of these (exit 2).
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    parts = re.findall(r"([0-9.]+)\s*([smhd])", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text):
        raise usage_error(f"budget {text!r}", expected="a time such as 90s, 10m, 1.5h")
    try:
        seconds = sum(float(number) * units[unit] for number, unit in parts)
    except ValueError:
        raise usage_error(f"budget {text!r}", expected="a time such as 90s, 10m, 1.5h") from None
    if seconds <= 0:
        raise usage_error(f"budget {text!r}", expected="more than no time")
    return seconds


def parse_labels(text: str) -> dict[str, int]:
    """Names and file values from `cell=255,nucleus=128`.

    Raises:
        SegError: it has another form, or a name or value twice (exit 2).
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip().isdecimal():
            raise usage_error(f"--labels {text!r}", expected="name=value,…, for example cell=255")
        if name.strip() in found or int(value) in found.values():
            raise usage_error(f"--labels {text!r}: {part!r} repeats a name or a value", expected="each of them once")
        found[name.strip()] = int(value)
    return found


def _load_tables(file: Path) -> dict[str, dict[str, Any]]:
    """The tables of a TOML file; all that is unknown in them is refused at once, but the options of components."""
    tables = load_toml(file)
    flat = [name for name, table in tables.items() if not isinstance(table, dict)]
    if flat:
        names = ", ".join(map(repr, flat))
        raise usage_error(f"{names} outside of any table", expected="tables such as [run] and [train]",
                          file=str(file))
    runs = [item.name for item in attrs.fields(Settings) if item.name not in ("options", *GROUPS)]
    known = {"run": runs, **{name: [item.name for item in attrs.fields(kind)] for name, kind in GROUPS.items()}}
    _refuse_unknown([(list(tables), ["run", *TABLES, *GROUPS], str(file)),
                     *((list(tables.get(name, {})), keys, f"{file} [{name}]") for name, keys in known.items())])
    return tables


def _refuse_unknown(groups: list[tuple[list[str], list[str], str]]) -> None:
    """Refuse the names that are not known, all at once; a group is names, known names, and where they stand."""
    records = [Record(code="SEG-C04", found=f"unknown key {name!r} in {where}", expected=f"one of {', '.join(known)}",
                      advice=MOVED.get(name) or nearest(name, known))
               for names, known, where in groups for name in names if name not in known]
    if records:
        raise SegError(records, Exit.USAGE)



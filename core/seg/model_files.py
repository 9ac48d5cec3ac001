"""What a model is on disk: `model.json` says everything, `weights/*.safetensors` hold the numbers.

`MANIFEST.sha256` has the digests of both, which are looked at before anything is parsed. Nothing in it is executed.
"""

from __future__ import annotations

import json
from pathlib import Path

from attrs import field, frozen
from safetensors.torch import save as save_tensors
from torch import Tensor

from seg.cascades import with_previous_stages
from seg.convert import dump_json, from_data
from seg.errors import Exit, Record, SegError, usage_error
from seg.files import digest_bytes, whole_folder
from seg.models import ComponentUse, Configuration, Plan

FORMAT = 1
MANIFEST = "MANIFEST.sha256"


@frozen(kw_only=True)
class Member:
    """One trained network: its configuration, its fold, the file of its weights."""

    configuration: str
    fold: str
    weights: str


@frozen(kw_only=True)
class ModelDescription:
    """All that a model is, but its weights.

    `configurations` are as trained (after a budget's reductions, whose reasons stand beside); `plan` is the planner's.
    `chosen` names the configurations that are combined at prediction, `postprocessing` the steps of `postprocessor`
    that are then done to the label map. `levels` says of which level the weights of a configuration are (see
    `seg.Prunable`); one that is not named there has the whole network. `components` has one of a kind more than once
    where folds were trained with several versions of it; `architecture` is that of the first fold.
    """

    schema: int = FORMAT
    plan: Plan
    configurations: dict[str, Configuration]
    reductions: dict[str, tuple[str, ...]] = field(factory=dict)
    members: tuple[Member, ...]
    chosen: tuple[str, ...]
    architecture: ComponentUse
    ensembler: ComponentUse
    postprocessing: tuple[str, ...] = ()
    postprocessor: ComponentUse | None = None
    components: tuple[ComponentUse, ...] = ()
    orientations: dict[str, int] = field(factory=dict)
    levels: dict[str, str] = field(factory=dict)
    validation: dict[str, dict[str, float | None]] = field(factory=dict)  # candidate → metric → mean
    postprocessed: dict[str, float | None] = field(factory=dict)  # metric → mean of the model in validation
    autocast: str = "auto"  # on a CPU
    half_sums: bool = False  # of tiles, see `Window`
    made_by: str = ""

    @property
    def needed(self) -> list[str]:
        """The configurations that prediction runs: the chosen ones, and the stages before them.

        Raises:
            KeyError: one of them is not in the model.
        """
        return with_previous_stages(self.chosen, self.configurations)

    @property
    def needed_components(self) -> list[ComponentUse]:
        """The components that prediction asks, in each version, beside the normalisers that the plan names."""
        after = [self.postprocessor] if self.postprocessing and self.postprocessor else []
        others = [use for use in self.components if use.kind == self.architecture.kind and use != self.architecture]
        return [self.architecture, *others, self.ensembler, *after]


def write_model(folder: Path, description: ModelDescription, weights: dict[str, dict[str, Tensor]]) -> None:
    """Write a model to `folder`, whole or not at all; `weights` maps the members' file names to tensors.

    Raises:
        SegError: the disk is full or not writable (exit 5).
    """
    content = {name: save_tensors({key: value.contiguous() for key, value in tensors.items()})
               for name, tensors in weights.items()}
    content["model.json"] = dump_json(description).encode()
    lines = [f"{digest_bytes(data)}  {name}" for name, data in sorted(content.items())]
    content[MANIFEST] = ("\n".join(lines) + "\n").encode()
    with whole_folder(folder) as temporary:
        for name, data in content.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_bytes(data)


def read_model(folder: Path) -> tuple[ModelDescription, dict[str, bytes]]:
    """What the model in `folder` says of itself, and the content of its files by name, each with its right digest.

    Raises:
        SegError: no model there (exit 2); content and digests differ, or the format is another (exit 7).
    """
    content = _verified(folder)
    return _description(content, folder), content


def _verified(folder: Path) -> dict[str, bytes]:
    """The content of every file of the manifest, each with the digest it should have."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise usage_error(f"no model: {folder} has no {MANIFEST}", expected="the folder `model` of a run",
                          file=str(folder))
    content = {MANIFEST: manifest.read_bytes()}
    for line in content[MANIFEST].decode("utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        file = folder / name
        inside = file.resolve().is_relative_to(folder.resolve())
        data = file.read_bytes() if inside and file.is_file() else None
        if data is None or digest_bytes(data) != digest:
            raise SegError(Record(code="SEG-M01", found="content that differs from its digest, or is not there",
                                  expected=f"SHA-256 {digest[:16]}…", file=str(file),
                                  advice="Copy the model again from where it came."), Exit.UNSAFE)
        content[name] = data
    return content


def _description(content: dict[str, bytes], folder: Path) -> ModelDescription:
    try:
        data = json.loads(content["model.json"])
        schema = data["schema"]
    except (KeyError, ValueError, TypeError):
        raise SegError(Record(code="SEG-M01", found="no readable model.json", file=str(folder)), Exit.UNSAFE) from None
    if schema != FORMAT:
        raise SegError(Record(code="SEG-M05", found=f"model format {schema}", expected=f"{FORMAT}", file=str(folder),
                              advice="Upgrade segplug to read newer models."), Exit.UNSAFE)
    description = from_data(data, ModelDescription, file=str(folder / "model.json"), exit_code=Exit.UNSAFE)
    trained = {member.configuration for member in description.members}
    known = set(description.configurations) & trained
    missing = [member.weights for member in description.members if member.weights not in content]
    stages = {stage for name in known if (stage := description.configurations[name].previous_stage)}
    missing += sorted((trained | set(description.chosen) | stages) - known)
    if missing or not description.chosen:
        raise SegError(Record(code="SEG-M01", found=f"model.json names what the model lacks: {', '.join(missing)}",
                              file=str(folder)), Exit.UNSAFE)
    return description

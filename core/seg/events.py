"""What happens in a run, as records; plugins hear of it through the hooks of the same names (see `seg.hookspecs`).

The fields of a record are the arguments of its hook. Stages tell events to their `seg.Progress`, which is everywhere
already; `seg.listening.Listening` passes them on to the plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import frozen

if TYPE_CHECKING:
    from seg.models import Evaluation
    from seg.settings import Settings


@frozen(kw_only=True)
class RunStarted:
    """A run begins, or goes on."""

    hook: ClassVar[str] = "seg_run_started"
    folder: Path
    settings: Settings


@frozen(kw_only=True)
class CasePreprocessed:
    """A case lies prepared in the case store `folder`."""

    hook: ClassVar[str] = "seg_case_preprocessed"
    folder: Path
    configuration: str
    case: str


@frozen(kw_only=True)
class EpochEnded:
    """An epoch of the training in `folder` ended; `row` is its line in `metrics.jsonl`."""

    hook: ClassVar[str] = "seg_epoch_ended"
    folder: Path
    configuration: str
    fold: str
    row: Mapping[str, Any]


@frozen(kw_only=True)
class ValidationDone:
    """A fold's validation cases are predicted and compared with the truth, in `folder`."""

    hook: ClassVar[str] = "seg_validation_done"
    folder: Path
    configuration: str
    fold: str
    evaluation: Evaluation


@frozen(kw_only=True)
class CasePredicted:
    """A new image was predicted into `file`, in so many seconds."""

    hook: ClassVar[str] = "seg_case_predicted"
    case: str
    file: Path
    seconds: float


@frozen(kw_only=True)
class RunEnded:
    """A run ended, with metrics of each configuration or by an error."""

    hook: ClassVar[str] = "seg_run_ended"
    folder: Path
    evaluations: Mapping[str, Evaluation]
    error: BaseException | None = None


Event = RunStarted | CasePreprocessed | EpochEnded | ValidationDone | CasePredicted | RunEnded

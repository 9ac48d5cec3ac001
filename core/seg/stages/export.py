"""Write a trained model in another program's format."""

from __future__ import annotations

from pathlib import Path

from seg.contracts import contract_error
from seg.errors import SegError, tell, usage_error
from seg.files import whole_folder
from seg.kinds import Exporter
from seg.model import Model
from seg.models import ComponentUse


def export(model: Model, exporter: Exporter, use: ComponentUse, folder: Path) -> tuple[Path, ...]:
    """The model as the exporter writes it, in the new folder `folder`: all of it, or nothing; returns the files.

    Args:
        model: loaded, on the processor.
        exporter: of the kind exporter.
        use: the record of its use, for what is said if it fails.
        folder: it must not hold anything yet.

    Raises:
        SegError: the folder is not empty (exit 2), the disk is full (exit 5), the exporter refuses the model, fails, or
            does not write what it says (exit 6).
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise usage_error("there is something already", expected="a new or empty folder", file=str(folder))
    with whole_folder(folder) as temporary:
        try:
            written = exporter.export(model, temporary)
            names = [Path(file).relative_to(temporary) for file in written]
        except (SegError, MemoryError, OSError):
            raise
        except Exception as error:
            raise contract_error(use, f"export raised {tell(error)}", "files, or seg.SegError") from error
        missing = [name.as_posix() for name in names if not (temporary / name).is_file()]
        if missing or not names:
            raise contract_error(use, f"export did not write {', '.join(missing) or 'anything'}",
                                 "the files that it names, at least one")
    return tuple(folder / name for name in names)

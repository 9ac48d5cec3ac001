"""Which files are images, which belong to one case, and what a case may be called. No image is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from seg.errors import Exit, Record, SegError
from seg.models import Case

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff")
LONGEST_NAME = 200  # bytes; what programs append must still fit into the 255 of a file name
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_NAME = re.compile(r"[\w+(][\w .+()-]*")


def image_ending(path: Path) -> str:
    """The ending of an image file in lower case (`.nii.gz`), or "" if this is no format we read."""
    name = path.name.lower()
    return next((ending for ending in IMAGE_ENDINGS if name.endswith(ending) and len(name) > len(ending)), "")


def case_name(path: Path) -> str:
    """The file's name without the ending of its image format."""
    return path.name[: len(path.name) - len(image_ending(path))]


def list_images(folder: Path) -> list[Path]:
    """The image files in `folder`, by name; hidden files (`._x` from macOS among them) are none."""
    return sorted(path for path in folder.iterdir() if image_ending(path) and not path.name.startswith("."))


def channel_of(path: Path) -> tuple[str, int | None]:
    """Case and channel of a file named `<case>_<4 digits><ending>`; no channel for any other name."""
    name = case_name(path)
    match = _CHANNEL.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def group_channels(files: Iterable[Path]) -> dict[str, dict[int, Path]]:
    """Case → channel → file, by the suffix `_0000`; files without one are left out."""
    groups: dict[str, dict[int, Path]] = {}
    for path in files:
        case, channel = channel_of(path)
        if channel is not None:
            groups.setdefault(case, {})[channel] = path
    return groups


def is_dicom_folder(folder: Path) -> bool:
    """Whether `folder` holds DICOM files: by their ending, or by the letters DICM at byte 128."""
    return folder.is_dir() and any(is_dicom_file(path) for path in sorted(folder.iterdir()))


def is_dicom_file(path: Path) -> bool:
    """Whether this is a DICOM file, by its ending or by the letters DICM at byte 128 (DICOM part 10)."""
    if path.name.startswith(".") or not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def name_records(cases: Iterable[str]) -> list[Record]:
    """A record (SEG-D18) for each case whose name cannot become a file's name, or clashes with another's."""
    records: list[Record] = []
    seen: dict[str, str] = {}
    for case in cases:
        if not _NAME.fullmatch(case) or len(case.encode()) > LONGEST_NAME:
            records.append(Record(
                code="SEG-D18", case=case.encode("unicode_escape").decode("ascii")[:LONGEST_NAME],
                found="the name cannot be used for files",
                expected=f"letters, digits, spaces and ._+()-, no leading dash or dot, at most {LONGEST_NAME} bytes",
                advice="Rename the files of the case."))
        if case.casefold() in seen:
            other = seen[case.casefold()]
            found = "two cases have this name" if other == case else f"differs from {other!r} by its case alone"
            records.append(Record(code="SEG-D18", case=case, found=found, advice="Rename one of them."))
        seen.setdefault(case.casefold(), case)
    return records


def missing_record(path: Path, case: str | None = None) -> Record:
    """The fault of a file that is not there (SEG-D09)."""
    beside = [item.name for item in list_images(path.parent)] if path.parent.is_dir() else []
    stem = channel_of(path)[0]
    near = [name for name in beside if name.startswith(stem)]
    found = f"there is no such file; of this case there are: {', '.join(near)}" if near else "there is no such file"
    return Record(code="SEG-D09", found=found, expected=path.name, case=case, file=str(path))


def find_inputs(source: Path | Sequence[Path], channels: int) -> list[Case]:
    """The cases to predict.

    Args:
        source: a folder of images or of folders with one DICOM series each, such a folder itself, one file, or a
            list of files and DICOM folders.
        channels: how many the model takes. Files are `<case>_0000…`; plain names are for models of one channel and
            for files that hold all channels.

    A channel that is not there is named in `Case.images` all the same, so that only its case is refused on reading.

    Raises:
        SegError: nothing is there (exit 2), or two files claim the same case (exit 3).
    """
    files = _given(source)
    suffixed = group_channels(path for path in files if not path.is_dir())
    if channels == 1 and any(set(group) != {0} for group in suffixed.values()):
        suffixed = {}  # numbered images, not channels
    cases = [Case(id=case, images=_channels(group, channels)) for case, group in suffixed.items()]
    in_groups = {path for group in suffixed.values() for path in group.values()}
    cases += [Case(id=_plain_name(path, suffixed), images=(path,)) for path in files if path not in in_groups]
    records = name_records(case.id for case in cases)
    if records:
        raise SegError(records)
    return sorted(cases, key=lambda case: case.id)


def _given(source: Path | Sequence[Path]) -> list[Path]:
    """The files and DICOM folders that `source` means."""
    if not isinstance(source, Path):
        files = [file for path in source for file in _given(path)]
        return list(dict.fromkeys(files))
    if not source.exists():
        raise _nothing(source, "there is no such file or folder")
    if source.is_file():
        if not image_ending(source):
            raise _nothing(source, "is no image of a format that is read")
        return [source]
    images = list_images(source)
    if images:
        return images
    if is_dicom_folder(source):
        return [source.resolve() if source.name in ("", "..") else source]
    series = [path for path in sorted(source.iterdir()) if is_dicom_folder(path)]
    if not series:
        there = sorted(path.name + ("/" if path.is_dir() else "") for path in source.iterdir())
        listed = ", ".join(there[:8]) + (", …" if len(there) > 8 else "") if there else "nothing"
        raise _nothing(source, f"holds no image; there is: {listed}")
    return series


def _nothing(source: Path, found: str) -> SegError:
    expected = f"files ending in {', '.join(IMAGE_ENDINGS)}, or folders with one DICOM series each"
    return SegError(Record(code="SEG-C06", found=found, expected=expected, file=str(source)), Exit.USAGE)


def _plain_name(path: Path, groups: dict[str, dict[int, Path]]) -> str:
    """The case of a file outside the groups; `a_0000.png` beside `a_0000.nii.gz` claims the same case."""
    return channel_of(path)[0] if channel_of(path)[0] in groups else case_name(path)


def _channels(group: dict[int, Path], channels: int) -> tuple[Path, ...]:
    some = next(iter(group.values()))
    case, ending = channel_of(some)[0], some.name[len(case_name(some)):]
    wanted = range(max(channels, max(group) + 1))
    return tuple(group.get(channel, some.with_name(f"{case}_{channel:04d}{ending}")) for channel in wanted)

"""Files that are whole or not there, digests, and one run at a time in a folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seg.errors import Exit, Record, SegError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name only when the block ends well.

    The file is flushed to the disk before it is renamed, so a file with its final name is complete. The temporary
    name keeps the ending, because writers choose the format by it.

    Raises:
        SegError: the disk is full or the folder cannot be written (exit 5); `path` is then as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = "".join(path.suffixes[-2:])
        handle, name = tempfile.mkstemp(prefix=f".{path.name.split('.')[0]}-", suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, path) from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which takes its name (and place) only when the block ends well.

    Raises:
        SegError: the disk is full or the folder cannot be written (exit 5); `path` is then as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        old = temporary.with_name(temporary.name + "-old")
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                path.rename(old)
            try:
                temporary.rename(path)
            except BaseException:
                if old.exists():
                    old.rename(path)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> SegError:
    """What to say when `path` could not be written (exit 5)."""
    advice = "Free some space, or choose another folder with -o." if error.errno == errno.ENOSPC else ""
    found = f"cannot be written: {error.strerror or error}"
    return SegError(Record(code="SEG-R01", found=found, advice=advice, file=str(path)), Exit.RESOURCES)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def digest_bytes(data: bytes) -> str:
    """SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of the order of its keys."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read once, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, within: str = "") -> Iterator[str]:
    """Hold `folder` for this process alone; the lock goes with the process, so a dead one leaves none behind.

    Yields a word. A process that holds the folder hands it to those that shall work for it, which come in with it
    (`within`) while the lock is held; they must not share a file with each other.

    Raises:
        SegError: another process holds it (exit 5), named by host and process number; or the one that gave the word
            holds it no more.
    """
    from filelock import FileLock, Timeout

    if within:
        if within != _word(folder):
            raise SegError(Record(code="SEG-R02", found="the run that started this process has ended",
                                  file=str(folder), advice="Start the run again."), Exit.RESOURCES)
        yield within
        return

    try:
        folder.mkdir(parents=True, exist_ok=True)
        owner, lock = folder / ".owner", FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        who = owner.read_text(encoding="utf-8").partition("\n")[0] if owner.exists() else "another process"
        record = Record(code="SEG-R02", found=f"in use by {who}", file=str(folder),
                        advice="Wait for it to end, or choose another folder with -o.")
        raise SegError(record, Exit.RESOURCES) from None
    except OSError as error:
        raise disk_error(error, folder) from error
    try:
        word = secrets.token_hex(8)
        write_text(owner, f"process {os.getpid()} on {os.uname().nodename}\n{word}")
        yield word
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _word(folder: Path) -> str:
    """What those who may work in a held folder know."""
    with suppress(OSError):
        return (folder / ".owner").read_text(encoding="utf-8").partition("\n")[2]
    return ""


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait until no other process is in a `turn` of `folder`, which is made if it is not there."""
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    except OSError as error:
        raise disk_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def _flush(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""A file with its final name is whole; a folder too; one process at a time."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seg import SegError
from seg import files as module
from seg.files import digest_bytes, digest_file, digest_json, locked, whole_file, whole_folder, write_bytes, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.json", "case.v1.nii.gz", ".hidden", "no_ending", "x" * 200 + ".nii.gz"])
def test_the_name_comes_last_and_nothing_else_stays(tmp_path, name):
    path = tmp_path / "deep" / name
    with whole_file(path) as temporary:
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.startswith(".")
        assert temporary.suffixes[-2:] == path.suffixes[-2:]
        temporary.write_text("content")
    assert path.read_text() == "content"
    assert names(path.parent) == [name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error), whole_file(path) as temporary:  # noqa: PT012
        temporary.write_text("new")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_exit_5_with_advice(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(SegError, match="Free some space") as caught, whole_file(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 5
    assert caught.value.records[0].file == str(path)
    assert path.read_text() == "old"


def test_a_parent_that_is_a_file_is_exit_5(tmp_path):
    write_text(tmp_path / "file", "")
    with pytest.raises(SegError) as caught:
        write_bytes(tmp_path / "file" / "inside", b"")
    assert caught.value.exit_code == 5


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_text(tmp_path / "ours", "")
    (tmp_path / "any").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "model") as temporary:
            (temporary / "weights").mkdir()
            (temporary / "weights" / content).write_text(content)
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model" / "weights") == ["new"]


@pytest.mark.parametrize("broken", ["block", "rename"])
def test_a_folder_that_fails_leaves_the_old_one(tmp_path, monkeypatch, broken):
    with whole_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("old")
    rename = Path.rename

    def refuse(self, target):
        if broken == "rename" and target == tmp_path / "model" and not self.name.endswith("-old"):
            raise OSError(errno.EIO, "broken disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises((SegError, ValueError)), whole_folder(tmp_path / "model") as temporary:  # noqa: PT012
        (temporary / "a").write_text("new")
        if broken == "block":
            raise ValueError
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "a").read_text() == "old"


def test_digests_are_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_file(tmp_path / "a") == digest_bytes(b"abc")
    assert digest_bytes(b"abc").startswith("ba7816bf8f01cfea")
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1}) != digest_json({"a": 1, "b": [3]})


def test_a_held_folder_is_refused_with_its_owner_and_free_again_afterwards(tmp_path):
    with locked(tmp_path):
        with pytest.raises(SegError, match=f"process {os.getpid()}") as caught, locked(tmp_path):
            pass
        assert caught.value.exit_code == 5
    with locked(tmp_path):
        pass


def test_a_dead_process_holds_nothing(tmp_path):
    code = f"""
import os
from pathlib import Path
from seg.files import locked
with locked(Path({str(tmp_path)!r})):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with locked(tmp_path):
        pass


def test_an_error_of_the_disk_names_the_place(tmp_path):
    error = module.disk_error(OSError(errno.EROFS, "Read-only file system"), tmp_path)
    assert "Read-only" in str(error)
    assert error.records[0].advice == ""

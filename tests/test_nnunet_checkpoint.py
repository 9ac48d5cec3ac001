"""A checkpoint of nnU-Net gives its numbers, and whatever else is in one is never run."""

import codecs
import io
import os
import pickle
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_tensors

from seg import SegError
from seg.nnunet_checkpoint import read_checkpoint

WEIGHTS = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(2))


def content(**changes):
    """What nnU-Net 2.8 saves, for a network of two tensors."""
    return {"network_weights": WEIGHTS, "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}},
            "grad_scaler_state": None, "current_epoch": 2, "_best_ema": np.float64(0.5),
            "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(1)], "lrs": [0.01], "more": np.arange(3)},
            "init_args": {"configuration": "2d", "fold": 0, "plans": {}, "device": torch.device("cuda")},
            "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (1, 0)} | changes


def saved(path, **changes):
    torch.save(content(**changes), path)
    return path


def rewritten(path, change):
    """The archive `path` with `change` made to its pickle."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return path


def refused(path):
    with pytest.raises(SegError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    return int(caught.value.exit_code), str(caught.value)


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def tar(path, data):
    with tarfile.open(path, "w") as archive:
        for name in ("pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def archive_of(path, name, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/version", b"3\n")


def touch(canary):
    return f"touch {canary}"


PAYLOADS = {
    "os.system": lambda path, canary: saved(path, extra=Call(os.system, touch(canary))),
    "eval": lambda path, canary: saved(path, extra=Call(eval, f"open({str(canary)!r}, 'w')")),
    "exec of Python 2": lambda path, canary: rewritten(
        saved(path, extra=Call(exec, f"open({str(canary)!r}, 'w')")),
        lambda data: data.replace(b"cbuiltins\n", b"c__builtin__\n")),
    "nested in the weights": lambda path, canary: saved(
        path, network_weights=OrderedDict(WEIGHTS, c=[{"d": (1, Call(subprocess.getoutput, touch(canary)))}])),
    "getattr": lambda path, canary: saved(path, extra=Call(Path.touch, canary)),
    "codecs": lambda path, canary: saved(path, extra=Call(codecs.open, str(canary), "w")),
    "numpy's scalar of an object": lambda path, canary: saved(
        path, _best_ema=Call(np._core.multiarray.scalar, np.dtype("O"), Call(os.system, touch(canary)))),
    "as a key": lambda path, canary: saved(path, logging={Call(os.system, touch(canary)): 1}),
    "torch's own loading": lambda path, canary: (
        Path(f"{path}.inner").write_bytes(pickle.dumps(Call(os.system, touch(canary)))),
        saved(path, extra=Call(torch.load, f"{path}.inner"))),
    "torch's older format": lambda path, canary: torch.save(
        content(extra=Call(os.system, touch(canary))), path, _use_new_zipfile_serialization=False),
    "torch's tar": lambda path, canary: tar(path, pickle.dumps(Call(os.system, touch(canary)))),
    "a pickle": lambda path, canary: path.write_bytes(pickle.dumps(content(extra=Call(os.system, touch(canary))))),
    "a zip made by hand": lambda path, canary: archive_of(
        path, "data.pkl", pickle.dumps(Call(os.system, touch(canary)), protocol=2)),
    "TorchScript": lambda path, canary: archive_of(path, "constants.pkl", pickle.dumps(Call(os.system, touch(canary)))),
    "a pickle with a zip behind": lambda path, canary: path.write_bytes(
        pickle.dumps(Call(os.system, touch(canary))) + saved(path).read_bytes()),
    "safetensors": lambda path, canary: path.write_bytes(save_tensors(dict(WEIGHTS))),
}  # fmt: skip


def test_the_numbers_are_read(tmp_path):
    found = read_checkpoint(saved(tmp_path / "c.pth"))
    assert (found.trainer, found.configuration, found.mirror_axes) == ("nnUNetTrainer", "2d", (0, 1))
    assert found.weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(found.weights[name], value) for name, value in WEIGHTS.items())


def test_the_names_of_older_numpy_are_known(tmp_path):
    path = rewritten(saved(tmp_path / "c.pth"), lambda data: data.replace(b"numpy._core.", b"numpy.core."))
    assert b"numpy.core.multiarray" in path.read_bytes()
    assert read_checkpoint(path).weights.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_wrappers_are_taken_off(tmp_path, prefix):
    weights = {f"{prefix}{name}": value for name, value in WEIGHTS.items()}
    assert read_checkpoint(saved(tmp_path / "c.pth", network_weights=weights)).weights.keys() == WEIGHTS.keys()


def test_without_mirror_axes_there_is_no_mirroring(tmp_path):
    path = saved(tmp_path / "c.pth", inference_allowed_mirroring_axes=None)
    assert read_checkpoint(path).mirror_axes == ()


def test_the_canary_would_sing(tmp_path):
    PAYLOADS["os.system"](tmp_path / "c.pth", tmp_path / "canary")
    torch.load(tmp_path / "c.pth", weights_only=False)
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_is_run(tmp_path, payload):
    path, canary = tmp_path / "c.pth", tmp_path / "canary"
    PAYLOADS[payload](path, canary)
    code, told = refused(path)
    assert code == 7
    assert "SEG-M07" in told
    assert "weights_only" not in told
    assert not canary.exists()


def test_what_was_asked_for_is_named(tmp_path):
    PAYLOADS["codecs"](tmp_path / "c.pth", tmp_path / "canary")
    assert "it asks for codecs.open" in refused(tmp_path / "c.pth")[1]


def test_the_environment_opens_no_door(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    PAYLOADS["eval"](tmp_path / "c.pth", tmp_path / "canary")
    assert refused(tmp_path / "c.pth")[0] == 7
    assert not (tmp_path / "canary").exists()


def test_numpy_is_not_called(tmp_path, monkeypatch):
    path = saved(tmp_path / "c.pth")
    for name in ("scalar", "_reconstruct"):
        monkeypatch.setattr(np._core.multiarray, name, lambda *_: pytest.fail("called"))
    read_checkpoint(path)


@pytest.mark.parametrize("part", [0, 3, 0.1, 0.5, 0.9, -1])
def test_a_cut_one_is_refused(tmp_path, part):
    path = saved(tmp_path / "c.pth")
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data)) if isinstance(part, float) else part])
    assert refused(path)[0] == 7


def test_a_flipped_byte_of_the_weights_is_seen(tmp_path):
    path = saved(tmp_path / "c.pth", network_weights={"a": torch.full((1000,), 7.0)})
    data = bytearray(path.read_bytes())
    data[data.index(b"\x00\x00\xe0\x40" * 50) + 99] ^= 1
    path.write_bytes(data)
    assert refused(path)[0] == 7


def test_what_swells_on_unpacking_is_refused(tmp_path):
    path = tmp_path / "c.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c/data.pkl", bytes(1 << 20))
    assert "1048576 bytes" in refused(path)[1]


@pytest.mark.parametrize(("changes", "named"), [
    ({"network_weights": {}}, "network_weights"), ({"network_weights": [1]}, "network_weights"),
    ({"network_weights": {"a": 1}}, "network_weights"), ({"network_weights": {1: torch.ones(1)}}, "network_weights"),
    ({"network_weights": {"a": torch.ones(1, device="meta")}}, "network_weights"),
    ({"init_args": None}, "init_args"), ({"init_args": {"configuration": 2}}, "init_args"),
    ({"init_args": {"configuration": "../x"}}, "init_args"), ({"init_args": {"configuration": ""}}, "init_args"),
    ({"inference_allowed_mirroring_axes": "01"}, "mirroring_axes"),
    ({"inference_allowed_mirroring_axes": (0, 0)}, "mirroring_axes"),
    ({"inference_allowed_mirroring_axes": (0.5,)}, "mirroring_axes"),
])  # fmt: skip
def test_what_is_missing_is_named(tmp_path, changes, named):
    code, told = refused(saved(tmp_path / "c.pth", **changes))
    assert code == 7
    assert named in told


def test_plain_tensors_are_no_checkpoint(tmp_path):
    torch.save(torch.ones(3), tmp_path / "c.pth")
    assert refused(tmp_path / "c.pth")[0] == 7


def test_what_cannot_be_opened_is_exit_2(tmp_path):
    assert refused(tmp_path / "absent.pth")[0] == 2
    assert refused(tmp_path)[0] == 2



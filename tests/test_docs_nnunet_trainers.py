"""The table of nnU-Net's trainers names each of them once, and its options exist and take the values it gives."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from seg.discovery import discover
from seg.runfolder import Components
from seg_cli.main import execute

PAGE = (Path(__file__).parents[1] / "docs" / "nnunet-trainers.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.*`) \| .* \| (.*) \|$", PAGE, flags=re.MULTILINE)
COMMANDS = sorted({words for _, how in ROWS for words in re.findall(r"`(--[^`]* [^`]*)`", how)})
TRAINERS = 76  # classes of nnunetv2 2.8.1 that derive from nnUNetTrainer


def test_each_trainer_has_its_place():
    names = [name for cell, _ in ROWS for name in re.findall(r"`(\w+)`", cell)]
    assert len(names) == len(set(names)) == TRAINERS
    assert all(how.startswith(("`--", "no", "in part: `--")) for _, how in ROWS)


@pytest.fixture
def seen(monkeypatch, tmp_path):
    found = []

    def remember(data, out, settings, **_):
        found.append(settings)
        return SimpleNamespace(evaluations={}, selection=None, folder=tmp_path)

    monkeypatch.setattr("seg.stages.run.run", remember)
    return found


@pytest.mark.parametrize("words", COMMANDS)
def test_what_the_table_says_is_understood(words, seen, tmp_path):
    length = [] if "--epochs" in words else ["--epochs", "1000"]
    assert execute(["run", str(tmp_path), *length, *shlex.split(words)]) == 0
    components = Components.resolve(seen[0], discover())
    assert components.uses["recipe"].name == "nnunet"
    for text in re.findall(r"--set (\S+)", words):
        kind, name, value = re.fullmatch(r"(\w+)\.(\w+)=(.*)", text).groups()
        found = getattr(seen[0].train if kind == "train" else getattr(components, kind), name)
        assert str(found).lower() == value or float(found) == float(value)

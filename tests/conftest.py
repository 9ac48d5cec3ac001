"""What several test files share."""

import signal
import sys
import tomllib

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that makes a package be found, as if pip had installed it, and forgets it after the test."""
    modules = []

    def installed(folder, source="."):
        """`folder` has the pyproject.toml, `folder / source` the modules."""
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        site = tmp_path / "site"
        info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(head + "".join(f"Requires-Dist: {one}\n" for one in project["dependencies"]))
        points = project["entry-points"]["seg"]
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[seg]\n{lines}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.syspath_prepend(str(folder / source))
        modules.extend(points.values())

    yield installed
    for name in [name for name in sys.modules if name.partition(".")[0] in modules]:
        del sys.modules[name]

"""What several test files share."""

import locale
import signal
import sys
import tomllib

import pytest

from seg.phantom import write_phantom
from seg_cli.main import execute

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


LOCALE = locale.setlocale(locale.LC_CTYPE)


@pytest.fixture(autouse=True)
def _locale():
    """The process's own for every test: who writes DICOM with ITK is left in that of C, where text files are ASCII."""
    locale.setlocale(locale.LC_CTYPE, LOCALE)
    yield
    locale.setlocale(locale.LC_CTYPE, LOCALE)


@pytest.fixture(scope="module")
def data(request, tmp_path_factory):
    """A small data set in nnU-Net's layout, of five cases or as many as the file's CASES says; tests only read it."""
    folder = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(folder, cases=getattr(request.module, "CASES", 5), shape=(16, 20, 18))
    return folder


@pytest.fixture
def command(capsys):
    """Run a command; exit code, standard output, standard error. There is never a traceback."""
    def call(*words):
        code = execute([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


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

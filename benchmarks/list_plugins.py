"""How long `seg list-plugins` takes beside 30 strangers' plugins: three are broken, one imports torch at top.

    python benchmarks/list_plugins.py

Makes the distributions in a temporary folder, runs the whole command in processes of its own, and prints the first time
(which fills the memory of slow plugins), the best of five after it, also in time of the processor, which other work on
the machine does not lengthen, and how many plugins were shown as broken.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLUGINS, RUNS = 30, 5
COMMAND = [sys.executable, "-c", "import sys; from seg_cli.main import main; main()", "list-plugins"]
GOOD = """
from seg import Offer, hookimpl

@hookimpl
def seg_samplers():
    yield Offer("sampler_{number}", "fake_{number}.parts:Sampler", "A sampler.")
"""
BROKEN = ("import no_such_module", "def (", "raise SystemExit(3)")
HEAVY = "import torch\n" + GOOD


def install(folder: Path, number: int, code: str) -> None:
    """A distribution as a pip install leaves it."""
    info, package = folder / f"fake_{number}-1.0.dist-info", folder / f"fake_{number}"
    info.mkdir()
    package.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fake-{number}\nVersion: 1.0\n"
                                   "Requires-Dist: segplug>=0.1,<1\n")
    (info / "entry_points.txt").write_text(f"[seg]\nfake_{number} = fake_{number}\n")
    (package / "__init__.py").write_text(code.replace("{number}", str(number)))


def main() -> None:
    """Print the times."""
    with tempfile.TemporaryDirectory() as name:
        site = Path(name) / "site"
        site.mkdir()
        for number in range(PLUGINS):
            install(site, number, (*BROKEN, HEAVY)[number] if number <= len(BROKEN) else GOOD)
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": f"{name}/cache"}
        times, processor = [], []
        for _ in range(RUNS + 1):
            started, before = time.perf_counter(), os.times()
            done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=True)
            times.append(time.perf_counter() - started)
            after = os.times()
            processor.append(sum(after[2:4]) - sum(before[2:4]))  # of the children: user, system
    broken = [line for line in done.stdout.splitlines() if "broken" in line]
    print(f"{PLUGINS} plugins: first time {times[0]:.2f} s, then {min(times[1:]):.2f} s (best of {RUNS}; of "
          f"the processor {min(processor[1:]):.2f} s), {len(broken)} broken ones shown, exit {done.returncode}")


if __name__ == "__main__":
    main()

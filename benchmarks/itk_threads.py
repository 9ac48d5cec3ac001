"""Whether SimpleITK may read headers of NIfTI files in several threads at once: how many processes die of it.

    python benchmarks/itk_threads.py          as seg does it, one thread at a time
    python benchmarks/itk_threads.py --free   without the lock

ITK 5 keeps the last file's name in one string for all threads; where a longer name needs a larger one, two threads may
free the old one. So each thread reads names that grow, from new processes, because each has one such string.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its users know

from seg import _guard

THREADS, TIMES, LENGTHS = 8, 3, (100, 200, 400, 800, 1600, 3200)


def files(folder: Path) -> list[list[Path]]:
    """For each length of a name a file for each thread."""
    image, levels = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.uint8)), []
    for length in LENGTHS:
        while (missing := length - len(str(folder))) > 0:
            folder /= "d" * min(missing, 200)
        folder.mkdir(parents=True)
        levels.append([folder / f"{thread}.nii.gz" for thread in range(THREADS)])
        for file in levels[-1]:
            sitk.WriteImage(image, str(file))
    return levels


def read(thread: int, levels: list[list[Path]], start: Barrier) -> None:
    """Read the headers of one thread's files, each length when all threads have come to it."""
    for level in levels:
        start.wait()
        for _ in range(TIMES):
            _guard.read_geometry(level[thread])


def main() -> None:
    """Processes for as long as asked, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--free", action="store_true", help="without the lock")
    parser.add_argument("--seconds", type=float, default=100)
    given = parser.parse_args()
    if given.free:
        _guard.ITK = nullcontext()  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        levels, end, died, count = files(Path(folder)), time.monotonic() + given.seconds, 0, 0
        while time.monotonic() < end:
            child = os.fork()
            if child == 0:
                start = Barrier(THREADS)
                threads = [Thread(target=read, args=(thread, levels, start)) for thread in range(THREADS)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                os._exit(0)
            died += os.waitpid(child, 0)[1] != 0
            count += 1
    print(f"{died} of {count} processes died")


if __name__ == "__main__":
    main()

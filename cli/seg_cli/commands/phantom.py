"""`seg phantom`: a generated data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seg_cli.console import ConsoleProgress, console


def phantom(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it, in nnU-Net's layout.")],
    cases: Annotated[int, typer.Option("--cases", min=1, help="How many cases.")] = 24,
    dims: Annotated[int, typer.Option("--dims", min=2, max=3, help="Spatial axes.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Root of all random numbers.")] = 0,
    shape: Annotated[str | None, typer.Option("--shape", help="Voxels of every case: z,y,x.")] = None,
) -> None:
    """Write a generated data set: nested structures, oblique and anisotropic grids, two scanners, noise."""
    from seg.errors import usage_error
    from seg.phantom import write_phantom

    size = tuple(int(part) for part in shape.split(",") if part.strip().isdigit()) if shape else None
    if size is not None and len(size) != dims:
        raise usage_error(f"--shape {shape!r}", expected=f"{dims} numbers, for example {'160,512,512'[-4 * dims + 1:]}")
    with ConsoleProgress() as progress:
        write_phantom(folder, cases=cases, dims=dims, seed=seed, shape=size, progress=progress)
    console().print(f"{cases} cases in {folder}")

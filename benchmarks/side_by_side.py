"""seg beside nnU-Net v2 in one run: same plans, same data, in turn (A B A B …); a table and all figures.

    python benchmarks/side_by_side.py --nnunet ENV [--device cpu|cuda] [--parts step,prediction,…] [--quick]
        [--data DATA] [--minutes M] [-o FOLDER]

ENV is a virtual environment with nnunetv2 and the same torch. On a CPU with one thread the figures are seconds of the
processor, on a GPU seconds by the clock; memory is the peak of the process tree. Cases are generated and kept in FOLDER
(runs/side_by_side), where `table.md` and `figures.json` are written after each part. `--quick` makes everything small:
it shows that all runs, its ratios mean little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from attrs import asdict
from beside.bench import Bench
from beside.parts import PARTS
from beside.processes import Failed
from beside.table import Row, markdown


def main() -> int:
    """Run the parts, write the table after each."""
    given = arguments(sys.argv[1:])
    out = given.out.resolve()
    if not given.keep:
        shutil.rmtree(out / "work", ignore_errors=True)
    (out / "work").mkdir(parents=True, exist_ok=True)
    repeats = 1 if given.quick else 3 if given.device == "cpu" else 2
    bench = Bench(nnunet=given.nnunet.resolve(), work=out / "work", device=given.device, quick=given.quick,
                  data=given.data and given.data.resolve(), repeats=given.repeats or repeats,
                  minutes=given.minutes or (0.2 if given.quick else 30 if given.device == "cpu" else 1.5))
    rows: list[Row] = []
    failed = 0
    head, versions = heading(bench)
    for part in given.parts:
        print(f"{part} …", file=sys.stderr, flush=True)
        try:
            rows += PARTS[part](bench)
        except Failed as fault:
            failed += 1
            head.append(f"\n**{part} failed**, see below.")
            print(fault, file=sys.stderr, flush=True)
        (out / "table.md").write_text(markdown(rows, head))
        (out / "figures.json").write_text(json.dumps({"versions": versions, "rows": [asdict(row) for row in rows]},
                                                     indent=2))
    print(markdown(rows, head))
    return int(failed > 0)


def arguments(words: list[str]) -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True, metavar="ENV")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help=",".join(PARTS))
    parser.add_argument("--data", type=Path, help="a data set of the Decathlon with one channel, for `training`")
    parser.add_argument("--minutes", type=float, default=0, help="of `training`, each side [30, on a GPU 1.5]")
    parser.add_argument("--repeats", type=int, default=0, help="of each program in a part [3, on a GPU 2, quick 1]")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that all runs")
    parser.add_argument("--keep", action="store_true", help="use the cases and models of the last call again")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/side_by_side"), metavar="FOLDER")
    return parser.parse_args(words)


def _parts(text: str) -> list[str]:
    unknown = set(text.split(",")) - set(PARTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    return text.split(",")


def heading(bench: Bench) -> tuple[list[str], dict[str, object]]:
    """The lines above the table: device, date, versions, whether the machine was busy."""
    import torch

    from seg.device import describe_device
    from seg.runfolder import versions

    theirs = bench.theirs("versions").figures
    ours = {**versions(), "cudnn": torch.backends.cudnn.version()}
    device = _processor() if bench.device == "cpu" else describe_device(torch.device("cuda", 0))
    load = os.getloadavg()[0]
    lines = [f"Device: {device}, {os.cpu_count()} cores, one thread. {datetime.now(UTC):%Y-%m-%d}.",
             "seg: " + ", ".join(f"{name} {value}" for name, value in ours.items() if value) + ".",
             "nnU-Net: " + ", ".join(f"{name} {value}" for name, value in theirs.items() if value) + ".",
             f"Medians of {bench.repeats} runs in turn; load of the machine at the start: {load:.1f}."]
    if theirs["torch"] != torch.__version__:
        lines.append(f"**Not the same torch**: {torch.__version__} and {theirs['torch']}.")
    if bench.quick:
        lines.append("**Quick**: small sizes, which show that all runs and no more.")
    return lines, {"seg": ours, "nnU-Net": theirs, "device": device, "load": load,
                   "date": f"{datetime.now(UTC):%Y-%m-%d}", "quick": bench.quick}


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")),
                platform.processor())


if __name__ == "__main__":
    sys.exit(main())

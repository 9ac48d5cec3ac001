"""Charts of a run as SVG: training curves, and the metrics of all cases. matplotlib's objects alone, nothing global."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seg.models import Evaluation

Rows = Sequence[Mapping[str, float]]
INK = "#33475b"
TITLES = {"dice": "Dice", "hd95_mm": "HD95 (mm)", "nsd": "surface Dice"}


def training_svg(folds: Mapping[str, Rows]) -> bytes:
    """Loss, learning rate and, where it was measured, the Dice in validation, against the step; a line for each fold.

    Args:
        folds: name → the rows of `metrics.jsonl`.
    """
    keys = [("loss", "loss"), ("lr", "learning rate")]
    if any("validation_dice" in row for rows in folds.values() for row in rows):
        keys.append(("validation_dice", "Dice in validation"))
    figure = Figure(figsize=(4.6 * len(keys), 2.9), layout="constrained")
    for panel, (key, title) in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        for name, rows in folds.items():
            points = [(row["step"], row[key]) for row in rows if key in row]
            panel.plot(*zip(*points, strict=True), linewidth=1.4, label=f"fold {name}",
                       marker="o" if len(points) < 3 else None, markersize=3)
        _plain(panel, title)
        panel.set_xlabel("step", color=INK, fontsize=9)
        if key == "loss" and len(folds) > 1:
            panel.legend(frameon=False, fontsize=8)
    return _svg(figure)


def metrics_svg(result: Evaluation) -> bytes:
    """A strip of points for each class and metric, one point a case, with median and quartiles behind."""
    names = [name for name in result.class_means if name not in result.absent]
    titles = TITLES | {metric: metric for metric in result.larger_is_better}
    figure = Figure(figsize=(3.6 * len(titles), 0.5 * len(names) + 1.4), layout="constrained")
    rng = np.random.default_rng(0)
    for panel, (metric, title) in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles.items(), strict=True):
        for place, name in enumerate(names):
            values = _values(result, name, metric)
            if not values:
                continue
            low, middle, high = np.percentile(values, (25, 50, 75))
            panel.hlines(place, low, high, color="#d5deea", linewidth=14)
            panel.plot([middle, middle], [place - 0.3, place + 0.3], color="#c2410c", linewidth=2)
            panel.scatter(values, place + rng.uniform(-0.15, 0.15, len(values)), s=14, color="#2563eb", alpha=0.65,
                          linewidths=0, zorder=3)
        panel.set_yticks(range(len(names)), names if metric == "dice" else [""] * len(names))
        panel.set_ylim(len(names) - 0.5, -0.5)
        if metric in {"dice", "nsd"}:
            panel.set_xlim(-0.02, 1.02)
        _plain(panel, title)
    return _svg(figure)


def _values(result: Evaluation, name: str, metric: str) -> list[float]:
    found = [case.classes[name].value(metric) for case in result.cases if name in case.classes]
    return [value for value in found if value is not None]


def _plain(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=10, color=INK)
    panel.tick_params(labelsize=8, colors=INK)
    panel.grid(visible=True, axis="both", color="#e6ebf1", linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None}
    figure.savefig(stream, format="svg", metadata=metadata)
    return stream.getvalue()

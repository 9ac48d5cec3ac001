"""Pictures of a case: three orthogonal slices with the outlines of truth and prediction.

Made with matplotlib's objects alone, so that nothing global is touched and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from seg.models import Labels, Spacing3

COLOURS = ("#4cc9f0", "#ffb703", "#f15bb5", "#9ef01a", "#ff6b35", "#b79cff", "#2ec4b6", "#ffffff")
PANEL_INCHES = 3.2
DPI = 90
FRAMES = ((0, "axial", "z"), (1, "coronal", "y"), (2, "sagittal", "x"))


@frozen(kw_only=True, eq=False)
class Shown:
    """A case to draw: image (Z, Y, X) of one channel, label ids (Z, Y, X) of truth and prediction, spacing in mm."""

    image: NDArray[Any]
    truth: NDArray[Any]
    prediction: NDArray[Any]
    spacing: Spacing3
    labels: Labels


def overlay_png(shown: Shown) -> bytes:
    """A PNG: slices of the image, and again with the outlines of truth (solid) and prediction (dashed), class by class.

    The slices go through the foreground; a 2-D image is its own only slice.
    """
    centre = foreground_centre(shown.truth, shown.prediction)
    flat = shown.image.shape[0] == 1
    frames = FRAMES[:1] if flat else FRAMES
    figure, panels = _figure([_size_mm(shown, axis) for axis, *_ in frames], beside=flat)
    low, high = (float(value) for value in np.percentile(shown.image, (0.5, 99.5)))
    for (axis, name, letter), (plain, outlined) in zip(frames, panels, strict=True):
        for panel in (plain, outlined):
            _slice(panel, shown, axis, centre[axis], (low, max(high, low + 1e-6)))
        title = "image" if flat else f"{name}, {letter} = {centre[axis]}"
        plain.set_title(title, color="white", fontsize=9)
        _outlines(outlined, shown, axis, centre[axis])
    _legend(figure, shown.labels)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def _figure(sizes: list[tuple[float, float]], *, beside: bool) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A figure with two panels for each slice, all at one scale; `sizes` are heights and widths in mm."""
    columns = sizes * 2 if beside else sizes
    widths, height = [width for _, width in columns], max(height for height, _ in sizes)
    inches = PANEL_INCHES * len(columns)
    tall = min(height * inches / sum(widths), 1.4 * PANEL_INCHES)
    rows = 1 if beside else 2
    figure = Figure(figsize=(inches, rows * tall + 0.7), layout="constrained", facecolor="black")
    panels = figure.subplots(rows, len(columns), squeeze=False, width_ratios=widths)
    pairs = [(panels[0, 0], panels[0, 1])] if beside else [(panels[0, k], panels[1, k]) for k in range(len(sizes))]
    return figure, pairs


def foreground_centre(truth: NDArray[Any], prediction: NDArray[Any]) -> tuple[int, int, int]:
    """A voxel (z, y, x) of the true foreground near its centre.

    Without truth it is one of the predicted foreground; without either, the middle of the image.
    """
    for array in (truth, prediction):
        counts = np.count_nonzero(array > 0, axis=(1, 2))
        if counts.any():
            z = _nearest(np.flatnonzero(counts)[:, None], [float(np.average(np.arange(len(counts)), weights=counts))])
            voxels = np.argwhere(array[z[0]] > 0)
            y, x = _nearest(voxels, voxels.mean(axis=0))
            return z[0], y, x
    depth, height, width = truth.shape
    return depth // 2, height // 2, width // 2


def _nearest(points: NDArray[Any], to: Any) -> list[int]:
    """The point nearest to `to`, of points (N, axes)."""
    found = points[int(((points - to) ** 2).sum(axis=1).argmin())]
    return [int(value) for value in found]


def _size_mm(shown: Shown, axis: int) -> tuple[float, float]:
    """Height and width of a slice across `axis`, in mm."""
    rows, columns = (other for other in range(3) if other != axis)
    size, spacing = shown.image.shape, shown.spacing
    return size[rows] * spacing[rows], size[columns] * spacing[columns]


def _slice(panel: Axes, shown: Shown, axis: int, index: int, window: tuple[float, float]) -> None:
    rows, columns = (other for other in range(3) if other != axis)
    panel.imshow(np.take(shown.image, index, axis), cmap="gray", vmin=window[0], vmax=window[1],
                 aspect=shown.spacing[rows] / shown.spacing[columns], origin="upper" if axis == 0 else "lower",
                 interpolation="nearest")
    panel.autoscale(enable=False)  # outlines must not move the limits
    panel.set_axis_off()


def _outlines(panel: Axes, shown: Shown, axis: int, index: int) -> None:
    for number, ids in enumerate(shown.labels.foreground.values()):
        for array, style in ((shown.truth, "solid"), (shown.prediction, "dashed")):
            mask = np.pad(np.isin(np.take(array, index, axis), ids), 1)  # a mask up to the edge has an outline, too
            if mask.any():
                rows, columns = (np.arange(-1, size - 1) for size in mask.shape)
                lines = panel.contour(columns, rows, mask.astype(float), levels=[0.5], colors=[_colour(number)],
                                      linewidths=1.3, linestyles=style)
                lines.set_path_effects([withStroke(linewidth=2.4, foreground="#00000099")])  # seen on white, too


def _legend(figure: Figure, labels: Labels) -> None:
    lines: Sequence[Any] = [
        *(Line2D([], [], color=_colour(number), label=name) for number, name in enumerate(labels.foreground)),
        Line2D([], [], color="white", label="truth"),
        Line2D([], [], color="white", linestyle="dashed", label="prediction"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 6), frameon=False, fontsize=8,
                  labelcolor="white")


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]

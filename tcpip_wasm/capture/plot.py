"""Pictures of a TCP connection: sequence numbers over time, data under way, throughput. Needs matplotlib.

Owns how it looks; what is shown comes from `connections`.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from typing import BinaryIO, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tcpip_wasm.capture.connections import Connection, Direction, endpoint_text

__all__ = ["draw", "save"]

_SENT: Final = "#1f77b4"
_RETRANSMITTED: Final = "#ff7f0e"
_DROPPED: Final = "#d62728"
_ACKNOWLEDGED: Final = "#2ca02c"
_SACKED: Final = "#9467bd"
_WINDOW: Final = "#9a9a9a"
_MANY: Final = 4000
"""Segments from which on they are drawn as pixels in an SVG, too."""


def draw(
    connection: Connection, *, direction: Direction | None = None, start: float | None = None, end: float | None = None
) -> Figure:
    """Return a figure of one direction of a connection.

    Args:
        connection: what to show.
        direction: one of its two; None is that with more payload.
        start, end: seconds since the connection's first packet between which it is shown; None shows all.
    """
    shown = connection.main if direction is None else direction
    figure = Figure(figsize=(11, 8.5), dpi=110, layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.3, 1.3))
    times = [each.time for each in shown.segments] + [each.time for each in shown.acknowledgements]
    first = 0.0 if start is None else start
    last = max(times, default=0.0) if end is None else end
    if last <= first:
        last = first + 1e-3
    scale, unit = (1.0, "s") if last >= 1 else (1e3, "ms")
    _sequence(top, shown, scale, first, last)
    _outstanding(middle, shown, scale, first, last)
    _throughput(bottom, shown, scale, first, last)
    figure.suptitle(
        f"{endpoint_text(shown.sender)} → {endpoint_text(shown.receiver)}, seen at {connection.point}", fontsize=12
    )
    bottom.set_xlabel(f"time since the connection's first packet ({unit})")
    margin = (last - first) * 0.01
    bottom.set_xlim((first - margin) * scale, (last + margin) * scale)
    for axes in (top, middle, bottom):
        axes.grid(True, color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    return figure


def save(figure: Figure, file: str | os.PathLike[str] | BinaryIO, *, format: str | None = None) -> None:  # noqa: A002
    """Write a figure; the same figure gives the same bytes.

    Args:
        file: a path, or a file open for writing bytes.
        format: ``png``, ``svg`` or another of matplotlib's; None takes it from the path.

    Raises:
        ValueError: matplotlib has no such format.
        OSError: the file cannot be written.
    """
    kind = format or (os.path.splitext(os.fspath(file))[1][1:] if isinstance(file, (str, os.PathLike)) else "png")
    with rc_context({"svg.hashsalt": "tcpip_wasm"}):
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _sequence(axes: Axes, shown: Direction, scale: float, first: float, last: float) -> None:
    segments = [each for each in shown.segments if first <= each.time <= last]
    acks = [each for each in shown.acknowledgements if each.dropped is None]
    seen = [each for each in acks if first <= each.time <= last]
    values = [each.end for each in segments] + [each.number for each in seen]
    size, unit = _bytes(max(values, default=0))
    low, high = (
        min([each.start for each in segments] + [each.number for each in seen], default=0),
        max(values, default=1),
    )
    if seen:
        times = [each.time * scale for each in acks]
        axes.step(
            times,
            [each.edge / size for each in acks],
            where="post",
            color=_WINDOW,
            linewidth=0.8,
            linestyle=(0, (4, 2)),
            label="edge of the receiver's window",
        )
        axes.step(
            times,
            [each.number / size for each in acks],
            where="post",
            color=_ACKNOWLEDGED,
            linewidth=1.2,
            label="acknowledged",
        )
    groups = (
        ("sent", _SENT, [s for s in segments if not s.retransmitted and s.dropped is None]),
        ("sent again", _RETRANSMITTED, [s for s in segments if s.retransmitted and s.dropped is None]),
        ("dropped", _DROPPED, [s for s in segments if s.dropped is not None]),
    )
    # A segment is as tall as it is long; beside many others its line would be too short to be seen without ends.
    ends = max(1.0, min(5.0, 600 / max(len(segments), 1)))
    many = len(segments) > _MANY
    for label, color, group in groups:
        if not group:
            continue
        width = 1.4 if color == _SENT else 2.2
        axes.vlines(
            [s.time * scale for s in group],
            [s.start / size for s in group],
            [s.end / size for s in group],
            colors=color,
            linewidth=width,
            label=f"{label} ({len(group):,})",
            rasterized=many,
            zorder=3,
        )
        if color == _SENT:
            for edge in ([s.start / size for s in group], [s.end / size for s in group]):
                axes.plot(
                    [s.time * scale for s in group],
                    edge,
                    linestyle="",
                    marker="_",
                    markersize=ends,
                    color=color,
                    rasterized=many,
                    zorder=3,
                )
        else:
            axes.plot(
                [s.time * scale for s in group],
                [(s.start + s.end) / 2 / size for s in group],
                linestyle="",
                marker="x" if color == _DROPPED else "D",
                markersize=(7 if len(group) < 30 else 4.5) if color == _DROPPED else 3.5,
                markeredgewidth=(1.8 if len(group) < 30 else 1.2) if color == _DROPPED else 0.5,
                color=color,
                zorder=5,
            )
    blocks = [(each.time * scale, a / size, b / size) for each in seen for a, b in each.sack]
    if blocks:
        axes.vlines(
            [b[0] for b in blocks],
            [b[1] for b in blocks],
            [b[2] for b in blocks],
            colors=_SACKED,
            linewidth=1.0,
            alpha=0.7,
            label=f"selectively acknowledged ({len(blocks):,} blocks)",
            rasterized=len(blocks) > _MANY,
            zorder=2,
        )
    lost = [each for each in shown.acknowledgements if each.dropped is not None and first <= each.time <= last]
    if lost:
        axes.plot(
            [each.time * scale for each in lost],
            [each.number / size for each in lost],
            linestyle="",
            marker="x",
            markersize=5,
            color=_ACKNOWLEDGED,
            label=f"acknowledgement dropped ({len(lost):,})",
            zorder=4,
        )
    margin = (high - low) * 0.05 or 1
    axes.set_ylim((low - margin) / size, (high + 2 * margin) / size)
    axes.set_ylabel(f"sequence number ({unit})")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=8.5, framealpha=0.9)


def _outstanding(axes: Axes, shown: Direction, scale: float, first: float, last: float) -> None:
    points = _within(shown.outstanding(), first, last)
    size, unit = _bytes(max((point[1] for point in points), default=0))
    x, y = [point[0] * scale for point in points], [point[1] / size for point in points]
    axes.fill_between(x, y, step="post", color=_SENT, alpha=0.2, linewidth=0)
    axes.step(x, y, where="post", color=_SENT, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"unacknowledged ({unit})")
    axes.set_title(
        "Data under way: sent and not acknowledged, as seen at this point; the congestion window itself cannot be seen",
        loc="left",
        fontsize=8.5,
        color="#444444",
    )


def _throughput(axes: Axes, shown: Direction, scale: float, first: float, last: float) -> None:
    width, sent, acknowledged = shown.throughput(start=first, end=last)
    peak = max([*sent, *acknowledged], default=0.0)
    size, unit = next((size, unit) for size, unit in _RATES if peak >= size or size == 1)
    edges = [(first + number * width) * scale for number in range(len(sent) + 1)]
    for values, color, label in ((sent, _SENT, "sent"), (acknowledged, _ACKNOWLEDGED, "acknowledged")):
        axes.stairs([value / size for value in values], edges, color=color, linewidth=1.2, label=label)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"throughput ({unit})")
    axes.set_title(f"In intervals of {_seconds(width)}", loc="left", fontsize=8.5, color="#444444")
    axes.legend(loc="best", fontsize=8.5, framealpha=0.9)


_RATES: Final = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1, "bit/s"))


def _within(points: Sequence[tuple[float, int]], first: float, last: float) -> Sequence[tuple[float, int]]:
    begin = max(bisect_left(points, (first, 0)) - 1, 0)
    return points[begin : bisect_left(points, (last, 1 << 62)) + 1]


def _bytes(most: int) -> tuple[float, str]:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if most >= 2 * size:
            return size, unit
    return 1, "bytes"


def _seconds(width: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if width >= size * 0.999:
            return f"{width / size:g} {unit}"
    return f"{width * 1e6:g} µs"

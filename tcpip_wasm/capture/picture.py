"""Draws a TCP connection: sequence numbers over time, data under way, throughput. Needs matplotlib.

Owns the appearance; `connections` has the data.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, BinaryIO, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tcpip_wasm.capture.connections import Acknowledgement, Connection, Direction, Segment, endpoint_text
from tcpip_wasm.capture.observation import Event

__all__ = ["draw", "save"]

_SENT: Final = "#1f77b4"
_RETRANSMITTED: Final = "#ff7f0e"
_DROPPED: Final = "#d62728"
_ACKNOWLEDGED: Final = "#2ca02c"
_SACKED: Final = "#9467bd"
_WINDOW: Final = "#9a9a9a"
_EVENT: Final = "#7f0000"
_PARTED: Final = "#d62728"
_DOWN: Final = "#404040"
_MOST_LABELS: Final = 40
_LONGEST_LABEL: Final = 48
_MANY: Final = 4000
"""Number of segments from which on they are drawn as pixels, in an SVG too."""


class Picture(Figure):
    """A figure that a notebook displays."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        save(self, file)
        return file.getvalue()


@dataclass(frozen=True, slots=True)
class _Span:
    """The range of time that is shown, in seconds since the connection's first packet, and its scale on the axis.

    Attributes:
        first, last: the range.
        shift: seconds from the origin of the axis to the connection's first packet.
        scale: units of the axis per second.
    """

    first: float
    last: float
    shift: float
    scale: float

    def at(self, time: float) -> float:
        """Return the position of a time on the axis."""
        return (time + self.shift) * self.scale


def draw(
    connection: Connection,
    *,
    direction: Direction | None = None,
    start: float | None = None,
    end: float | None = None,
    events: Sequence[Event] = (),
    origin: float | None = None,
) -> Figure:
    """Return a figure of one direction of a connection.

    Args:
        connection: the connection.
        direction: one of its two; None is that with more payload.
        start, end: the range in seconds since the origin; None shows all of it.
        events: such as `Trace.events`: each is a line, and the times of a partition, of a crashed host and of a link
            that is down are shaded.
        origin: the time that is 0 on the axis, in the packets' time; None is the connection's first packet.
    """
    shown = connection.main if direction is None else direction
    shift = 0.0 if origin is None else connection.start - origin
    figure = Picture(figsize=(11, 8.5), dpi=110, layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.3, 1.3))
    times = [each.time for each in shown.segments] + [each.time for each in shown.acknowledgements]
    first = 0.0 if start is None else start - shift
    last = max(times, default=0.0) if end is None else end - shift
    if last <= first:
        last = first + 1e-3
    scale, unit = (1.0, "s") if last + shift >= 1 else (1e3, "ms")
    span = _Span(first, last, shift, scale)
    _sequence(top, shown, span)
    _outstanding(middle, shown, span)
    _throughput(bottom, shown, span)
    _events((top, middle, bottom), [(event.time - connection.start, event.text) for event in events], span)
    figure.suptitle(
        f"{endpoint_text(shown.sender)} → {endpoint_text(shown.receiver)}, seen at {connection.point}", fontsize=12
    )
    since = "the connection's first packet" if origin is None else "the beginning of the capture"
    bottom.set_xlabel(f"time since {since if origin != 0 else 'the beginning of the run'} ({unit})")
    margin = (last - first) * 0.01
    bottom.set_xlim(span.at(first - margin), span.at(last + margin))
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
        ValueError: matplotlib does not support the format.
        OSError: the file cannot be written.
    """
    kind = format or (os.path.splitext(os.fspath(file))[1][1:] if isinstance(file, (str, os.PathLike)) else "png")
    with rc_context({"svg.hashsalt": "tcpip_wasm"}):
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _sequence(axes: Axes, shown: Direction, span: _Span) -> None:
    segments = [each for each in shown.segments if span.first <= each.time <= span.last]
    acks = [each for each in shown.acknowledgements if each.dropped is None]
    seen = [each for each in acks if span.first <= each.time <= span.last]
    lost = [
        each for each in shown.acknowledgements if each.dropped is not None and span.first <= each.time <= span.last
    ]
    values = [each.end for each in segments] + [each.number for each in seen]
    size, unit = _bytes(max(values, default=0))
    low, high = (
        min([each.start for each in segments] + [each.number for each in seen], default=0),
        max(values, default=1),
    )
    if seen:
        _acknowledged(axes, acks, span, size)
    _segments(axes, segments, span, size)
    _sacked(axes, seen, span, size)
    if lost:
        axes.plot(
            [span.at(each.time) for each in lost],
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


def _acknowledged(axes: Axes, acks: Sequence[Acknowledgement], span: _Span, size: float) -> None:
    """Draw the edge of the receiver's window, and the acknowledged sequence number."""
    times = [span.at(each.time) for each in acks]
    edges, numbers = [each.edge / size for each in acks], [each.number / size for each in acks]
    dashes = (0, (4, 2))
    label = "edge of the receiver's window"
    axes.step(times, edges, where="post", color=_WINDOW, linewidth=0.8, linestyle=dashes, label=label)
    axes.step(times, numbers, where="post", color=_ACKNOWLEDGED, linewidth=1.2, label="acknowledged")


def _segments(axes: Axes, segments: Sequence[Segment], span: _Span, size: float) -> None:
    groups = (
        ("sent", _SENT, [s for s in segments if not s.retransmitted and s.dropped is None]),
        ("retransmitted", _RETRANSMITTED, [s for s in segments if s.retransmitted and s.dropped is None]),
        ("dropped", _DROPPED, [s for s in segments if s.dropped is not None]),
    )
    # A segment's line is as high as its length; among many segments it needs end marks to be visible.
    ends = max(1.0, min(5.0, 600 / max(len(segments), 1)))
    many = len(segments) > _MANY
    for label, color, group in groups:
        if not group:
            continue
        times = [span.at(s.time) for s in group]
        starts, stops = [s.start / size for s in group], [s.end / size for s in group]
        axes.vlines(
            times,
            starts,
            stops,
            colors=color,
            linewidth=1.4 if color == _SENT else 2.2,
            label=f"{label} ({len(group):,})",
            rasterized=many,
            zorder=3,
        )
        if color == _SENT:
            mark: dict[str, Any] = {"linestyle": "", "marker": "_", "markersize": ends, "color": color}
            for edge in (starts, stops):
                axes.plot(times, edge, **mark, rasterized=many, zorder=3)
        else:
            axes.plot(
                times,
                [(s.start + s.end) / 2 / size for s in group],
                linestyle="",
                marker="x" if color == _DROPPED else "D",
                markersize=(7 if len(group) < 30 else 4.5) if color == _DROPPED else 3.5,
                markeredgewidth=(1.8 if len(group) < 30 else 1.2) if color == _DROPPED else 0.5,
                color=color,
                zorder=5,
            )


def _sacked(axes: Axes, acks: Sequence[Acknowledgement], span: _Span, size: float) -> None:
    blocks = [(span.at(each.time), a / size, b / size) for each in acks for a, b in each.sack]
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


def _outstanding(axes: Axes, shown: Direction, span: _Span) -> None:
    points = _within(shown.outstanding(), span.first, span.last)
    size, unit = _bytes(max((point[1] for point in points), default=0))
    x, y = [span.at(point[0]) for point in points], [point[1] / size for point in points]
    axes.fill_between(x, y, step="post", color=_SENT, alpha=0.2, linewidth=0)
    axes.step(x, y, where="post", color=_SENT, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"unacknowledged ({unit})")
    axes.set_title(
        "Data under way: sent and not acknowledged, at this point; the congestion window is not visible in a capture",
        loc="left",
        fontsize=8.5,
        color="#444444",
    )


def _throughput(axes: Axes, shown: Direction, span: _Span) -> None:
    width, sent, acknowledged = shown.throughput(start=span.first, end=span.last)
    peak = max([*sent, *acknowledged], default=0.0)
    size, unit = next((size, unit) for size, unit in _RATES if peak >= size or size == 1)
    edges = [span.at(span.first + number * width) for number in range(len(sent) + 1)]
    for values, color, label in ((sent, _SENT, "sent"), (acknowledged, _ACKNOWLEDGED, "acknowledged")):
        axes.stairs([value / size for value in values], edges, color=color, linewidth=1.2, label=label)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"throughput ({unit})")
    axes.set_title(f"In intervals of {_seconds(width)}", loc="left", fontsize=8.5, color="#444444")
    axes.legend(loc="best", fontsize=8.5, framealpha=0.9)


_RATES: Final = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1, "bit/s"))


def _events(panels: Sequence[Axes], events: Sequence[tuple[float, str]], span: _Span) -> None:
    """Draw a line for each event, and shade the times of partitions, crashed hosts and links that are down."""
    for begin, end, color in _lasting(events):
        if begin <= span.last and end >= span.first:
            edges = span.at(max(begin, span.first)), span.at(min(end, span.last))
            for axes in panels:
                axes.axvspan(*edges, color=color, alpha=0.12, linewidth=0, zorder=0)
    seen = [(time, text) for time, text in events if span.first <= time <= span.last]
    for number, (time, text) in enumerate(seen):
        for axes in panels:
            axes.axvline(span.at(time), color=_EVENT, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1)
        if number < _MOST_LABELS:
            panels[0].text(
                *(span.at(time), 0.985, f" {text[:_LONGEST_LABEL]}{'…' if len(text) > _LONGEST_LABEL else ''}"),
                transform=panels[0].get_xaxis_transform(),
                rotation=90,
                va="top",
                ha="right",
                fontsize=7.5,
                color=_EVENT,
                clip_on=True,
                zorder=6,
            )


def _lasting(events: Sequence[tuple[float, str]]) -> list[tuple[float, float, str]]:
    """Return begin, end and color of each partition, and of each time that a host or a link was down."""
    found: list[tuple[float, float, str]] = []
    begun: float | None = None
    down: dict[str, float] = {}
    for time, text in events:
        host, _, what = text.rpartition(" ")
        if text.startswith("partition: ") or text == "healed":
            if begun is not None:
                found.append((begun, time, _PARTED))
            begun = None if text == "healed" else time
        elif what in ("crashed", "down"):  # a host, a link
            down.setdefault(host, time)
        elif what in ("restarted", "up") and host in down:
            found.append((down.pop(host), time, _DOWN))
    found += [(time, inf, _DOWN) for time in down.values()]
    return found if begun is None else [*found, (begun, inf, _PARTED)]


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

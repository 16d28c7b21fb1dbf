"""`plot`: a connection of a trace or of a capture file as a figure. matplotlib is imported when it is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from tcpip_wasm.capture.connections import Connection, connections, views
from tcpip_wasm.capture.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]


def plot(
    capture: Trace | str | os.PathLike[str] | BinaryIO,
    *,
    connection: int | None = None,
    point: str | None = None,
    reverse: bool = False,
    start: float | None = None,
    end: float | None = None,
) -> Figure:
    """Return a figure of a TCP connection: sequence numbers, data under way and throughput over time.

    Partitions, crashes and other events of the trace are drawn, too. A notebook displays the figure; `Figure.savefig`
    writes it. Needs the extra ``plot``.

    Args:
        capture: a trace, such as `Network.trace` returns, or a capture file.
        connection: its number from 1 on, in the order of ``tcpip-wasm plot --list``; None is the one with most data.
        point: the link or interface that captured it; None is the one at the sender.
        reverse: whether to draw the direction with less data.
        start, end: the range in seconds, as ``tcpip-wasm show`` and `Trace.text` print them; None shows all of it.

    Raises:
        ValueError: no TCP connection, or an unknown connection or point.
        ImportError: matplotlib is not installed.
        CaptureFormatError: the file is not a capture, or is damaged.
        OSError: it cannot be read.
    """
    trace = capture if isinstance(capture, Trace) else Trace.load(capture)
    _, chosen = choose(trace, connection, point)
    return figure_of(trace, chosen, reverse=reverse, start=start, end=end)


def choose(trace: Trace, connection: int | None, point: str | None) -> tuple[str, Connection]:
    """Return a connection as captured at a point, and a text "number of count"; see `plot`.

    Raises:
        ValueError: it does not exist.
    """
    found = views(connections(trace))
    if not found:
        raise ValueError(f"no TCP connection among {len(trace):,} packets")
    number = 1 if connection is None else connection
    if not 1 <= number <= len(found):
        raise ValueError(f"connection {number}: there are 1 to {len(found)}")
    seen = {each.point: each for each in found[number - 1]}
    if point is not None and point not in seen:
        raise ValueError(f"point {point}: connection {number} was captured at {', '.join(seen)}")
    return f"{number} of {len(found)}", seen[next(iter(seen)) if point is None else point]


def figure_of(trace: Trace, connection: Connection, *, reverse: bool, start: float | None, end: float | None) -> Figure:
    """Return a figure of a connection of a trace, with the trace's events; see `plot`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from tcpip_wasm.capture.picture import draw
    except ImportError as error:
        raise ImportError(f"plotting needs matplotlib ({error}): pip install 'tcpip_wasm[plot]'") from error
    direction = next(each for each in connection.directions if each is not connection.main) if reverse else None
    return draw(connection, direction=direction, start=start, end=end, events=trace.events, origin=trace.origin)

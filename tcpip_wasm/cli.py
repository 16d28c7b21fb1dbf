"""The command ``tcpip-wasm``: what is in a capture, as lines and as pictures; simulations under many seeds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from tcpip_wasm import __version__
from tcpip_wasm.capture.connections import Connection, connections, views
from tcpip_wasm.capture.decode import Packet
from tcpip_wasm.capture.observation import Event
from tcpip_wasm.capture.reading import read_capture
from tcpip_wasm.capture.text import lines
from tcpip_wasm.capture.trace import Trace, observation_of
from tcpip_wasm.errors import CaptureFormatError
from tcpip_wasm.simulation.command import add_arguments, sweep_command

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status: 0, 1 if something failed, 2 if it was called wrongly.

    Args:
        arguments: those of the command line; None takes the program's.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if "run" not in options:
        parser.print_help()
        return 0
    try:
        return int(options.run(options))
    except BrokenPipeError:  # whoever reads has enough, as ``head`` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError) as error:
        return _fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tcpip-wasm", description="Looks at captures (pcapng and pcap), and runs simulations under many seeds."
    )
    parser.add_argument("--version", action="version", version=f"tcpip-wasm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    show = commands.add_parser("show", help="print one line for each packet")
    show.add_argument("capture", type=Path)
    show.add_argument(
        *("-p", "--point"), action="append", metavar="NAME", help="only what this link or interface saw; repeatable"
    )
    show.add_argument(
        "--host", action="append", metavar="ADDRESS", type=_address, help="only from or to this address; repeatable"
    )
    show.add_argument("--tcp", action="store_true", help="only TCP: no broadcasts, which show on each link")
    show.set_defaults(run=_show)
    plot = commands.add_parser(
        "plot",
        help="draw a TCP connection: sequence numbers, data under way and throughput over time",
        description="Draws a TCP connection: sequence numbers, data under way and throughput over time.",
    )
    plot.add_argument("capture", type=Path)
    plot.add_argument(
        "-o", "--output", type=Path, help="PNG, SVG or PDF, as its name says; the capture's name with .png"
    )
    plot.add_argument("-c", "--connection", type=int, metavar="N", help="which one, see --list; the one with most data")
    plot.add_argument(
        "-p", "--point", metavar="NAME", help="as which link or interface saw it; the first of those that --list names"
    )
    plot.add_argument("-l", "--list", action="store_true", help="print the connections and draw none")
    plot.add_argument("-r", "--reverse", action="store_true", help="draw the direction in which less data went")
    plot.add_argument("--start", type=float, metavar="SECONDS", help="since the connection's first packet")
    plot.add_argument("--end", type=float, metavar="SECONDS")
    plot.set_defaults(run=_plot)
    sweep = commands.add_parser(
        "sweep",
        help="run a simulation under many seeds",
        description="Runs a scenario, as of tcpip_wasm.simulation.run, under many seeds in many processes.",
    )
    add_arguments(sweep)
    sweep.set_defaults(run=sweep_command)
    return parser


def _show(options: argparse.Namespace) -> int:
    # A file that is damaged at its end shows all that comes before.
    events: list[Event] = []
    for text in lines(_packets(options, events), events=events):
        print(text)
    return 0


def _packets(options: argparse.Namespace, events: list[Event]) -> Iterator[Packet]:
    try:
        for captured in read_capture(options.capture, on_event=events.append):
            if options.point and captured.interface not in options.point:
                continue
            packet = Packet(observation_of(captured))
            if options.tcp and packet.tcp is None:
                continue
            if options.host and packet.source not in options.host and packet.destination not in options.host:
                continue
            yield packet
    except CaptureFormatError as error:
        raise ValueError(f"{options.capture}: {error}") from error


def _address(text: str) -> str:
    return str(ip_address(text))


def _plot(options: argparse.Namespace) -> int:
    trace = Trace()
    try:
        for captured in read_capture(options.capture):
            trace.record(observation_of(captured))
    except CaptureFormatError as error:
        if not len(trace):
            return _fail(f"{options.capture}: {error}")
        print(f"tcpip-wasm: {options.capture}: only {len(trace):,} packets could be read: {error}", file=sys.stderr)
    found = views(connections(trace))
    if not found:
        return _fail(f"{options.capture}: no TCP connection among {len(trace):,} packets")
    if options.list:
        for number, (first, *others) in enumerate(found, 1):
            also = ", ".join(f"{each.point} ({each.packets} packets)" for each in others)
            print(f"{number}  {first}{'; also at ' if also else ''}{also}")
        return 0
    number = 1 if options.connection is None else options.connection
    if not 1 <= number <= len(found):
        return _fail(f"--connection {number}: there are 1 to {len(found)}")
    seen = {each.point: each for each in found[number - 1]}
    point = next(iter(seen)) if options.point is None else options.point
    if point not in seen:
        return _fail(f"--point {point}: connection {number} was seen at {', '.join(seen)}")
    return _draw(options, seen[point], f"{number} of {len(found)}")


def _draw(options: argparse.Namespace, connection: Connection, which: str) -> int:
    try:
        from tcpip_wasm.capture.plot import draw, save
    except ImportError as error:
        return _fail(f"plotting needs matplotlib ({error}): pip install 'tcpip_wasm[plot]'")
    directions = [each for each in connection.directions if each is not connection.main]
    direction = directions[0] if options.reverse else None
    output = options.output or options.capture.with_suffix(".png")
    save(draw(connection, direction=direction, start=options.start, end=options.end), output)
    print(f"{output}: connection {which}: {connection}")
    return 0


def _fail(text: str) -> int:
    print(f"tcpip-wasm: {text}", file=sys.stderr)
    return 1

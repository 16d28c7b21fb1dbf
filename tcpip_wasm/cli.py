"""The command ``tcpip-wasm``: prints and plots captures, runs simulations under many seeds, makes keys of WireGuard.

Commands that join a stack to something outside of the process are in `commands`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from itertools import chain
from pathlib import Path

from tcpip_wasm import __version__
from tcpip_wasm.capture.connections import connections, views
from tcpip_wasm.capture.decode import Packet
from tcpip_wasm.capture.observation import Event
from tcpip_wasm.capture.plotting import choose, figure_of
from tcpip_wasm.capture.reading import read_capture
from tcpip_wasm.capture.text import lines, origin_of
from tcpip_wasm.capture.trace import Trace, observation_of
from tcpip_wasm.commands import add_network_commands
from tcpip_wasm.errors import CaptureFormatError
from tcpip_wasm.simulation.runs.command import add_arguments, sweep_command

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status: 0, 1 after an error, 2 for wrong arguments.

    Args:
        arguments: the command line; None takes that of the process.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if "run" not in options:
        parser.print_help()
        return 0
    try:
        return int(options.run(options))
    except BrokenPipeError:  # the reader has closed the pipe, as ``head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError) as error:
        return _fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tcpip-wasm",
        description="Prints, plots and makes captures, runs simulations, serves guests, makes keys of WireGuard.",
    )
    parser.add_argument("--version", action="version", version=f"tcpip-wasm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    show = commands.add_parser("show", help="print one line for each packet")
    show.add_argument("capture", type=Path)
    show.add_argument(
        *("-p", "--point"), action="append", metavar="NAME", help="only packets at this link or interface; repeatable"
    )
    show.add_argument(
        "--host", action="append", metavar="ADDRESS", type=_address, help="only from or to this address; repeatable"
    )
    show.add_argument("--tcp", action="store_true", help="only TCP: no broadcasts, which appear on each link")
    show.set_defaults(run=_show)
    plot = commands.add_parser(
        "plot",
        help="draw a TCP connection: sequence numbers, data under way and throughput over time",
        description="Draws a TCP connection: sequence numbers, data under way and throughput over time.",
    )
    plot.add_argument("capture", type=Path)
    plot.add_argument("-o", "--output", type=Path, help="a PNG, SVG or PDF file; default: the capture's name with .png")
    plot.add_argument("-c", "--connection", type=int, metavar="N", help="its number, see --list; default: most data")
    plot.add_argument(
        "-p", "--point", metavar="NAME", help="the link or interface that captured it; default: the first of --list"
    )
    plot.add_argument("-l", "--list", action="store_true", help="print the connections instead")
    plot.add_argument("-r", "--reverse", action="store_true", help="draw the direction with less data")
    plot.add_argument("--start", type=float, metavar="SECONDS", help="from this time on, as `show` prints it")
    plot.add_argument("--end", type=float, metavar="SECONDS", help="up to this time")
    plot.set_defaults(run=_plot)
    sweep = commands.add_parser(
        "sweep",
        help="run a simulation under many seeds",
        description="Runs a scenario of tcpip_wasm.simulation.run under many seeds, in many processes.",
    )
    add_arguments(sweep)
    sweep.set_defaults(run=sweep_command)
    add_network_commands(commands)
    wg = commands.add_parser(
        "wg",
        help="make keys of WireGuard",
        description="Makes keys of WireGuard, as `wg` does: `tcpip-wasm wg genkey | tee key | tcpip-wasm wg pubkey`.",
    )
    actions = wg.add_subparsers(metavar="ACTION", required=True)
    for name, text in (
        ("genkey", "print a private key"),
        ("genpsk", "print a preshared key"),
        ("pubkey", "read a private key from the standard input and print its public key"),
    ):
        actions.add_parser(name, help=text, description=text.capitalize() + ".").set_defaults(run=_wg, action=name)
    return parser


def _wg(options: argparse.Namespace) -> int:
    try:
        from tcpip_wasm.links.wireguard import command
    except ModuleNotFoundError as missing:
        if missing.name != "cryptography":
            raise
        return _fail("wg needs cryptography: pip install 'tcpip-wasm[wireguard]'")
    actions = {"genkey": command.genkey, "genpsk": command.genpsk, "pubkey": command.pubkey}
    return actions[options.action](options)


def _show(options: argparse.Namespace) -> int:
    # Packets before a damaged part of the file are printed.
    events: list[Event] = []
    packets = _packets(options, events)
    first = next(packets, None)
    origin = None if first is None else origin_of(first.time)  # of the whole capture, whatever is filtered
    shown = (packet for packet in chain([] if first is None else [first], packets) if _is_wanted(options, packet))
    for text in lines(shown, events=events, origin=origin):
        print(text)
    return 0


def _packets(options: argparse.Namespace, events: list[Event]) -> Iterator[Packet]:
    try:
        for captured in read_capture(options.capture, on_event=events.append):
            yield Packet(observation_of(captured))
    except CaptureFormatError as error:
        raise ValueError(f"{options.capture}: {error}") from error


def _is_wanted(options: argparse.Namespace, packet: Packet) -> bool:
    if options.point and packet.point not in options.point:
        return False
    if options.tcp and packet.tcp is None:
        return False
    return not options.host or packet.source in options.host or packet.destination in options.host


def _address(text: str) -> str:
    return str(ip_address(text))


def _plot(options: argparse.Namespace) -> int:
    trace = Trace()
    try:
        for captured in read_capture(options.capture, on_event=trace.events.append):
            trace.record(observation_of(captured))
    except CaptureFormatError as error:
        if not len(trace):
            return _fail(f"{options.capture}: {error}")
        print(f"tcpip-wasm: {options.capture}: only {len(trace):,} packets could be read: {error}", file=sys.stderr)
    try:
        which, connection = choose(trace, options.connection, options.point)
    except ValueError as error:
        return _fail(f"{options.capture}: {error}")
    if options.list:
        for number, (first, *others) in enumerate(views(connections(trace)), 1):
            also = ", ".join(f"{each.point} ({each.packets} packets)" for each in others)
            print(f"{number}  {first}{'; also at ' if also else ''}{also}")
        return 0
    try:
        figure = figure_of(trace, connection, reverse=options.reverse, start=options.start, end=options.end)
        from tcpip_wasm.capture.picture import save
    except ImportError as error:
        return _fail(str(error))
    output = options.output or options.capture.with_suffix(".png")
    save(figure, output)
    print(f"{output}: connection {which}: {connection}")
    return 0


def _fail(text: str) -> int:
    print(f"tcpip-wasm: {text}", file=sys.stderr)
    return 1

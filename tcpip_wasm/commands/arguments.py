"""The arguments of the commands: their names, types and help. Imports a command when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from pathlib import Path
from textwrap import fill
from typing import Final, TypeVar

from tcpip_wasm.commands.outside import FORMS, parse_outside
from tcpip_wasm.commands.running import run

__all__ = ["add_network_commands"]

T = TypeVar("T")

_LINK_HELP: Final = """\
links:
  tap:NAME            a TAP device of this Linux machine, made beforehand and up:
                        ip tuntap add NAME mode tap user $USER && ip link set NAME up
  qemu:unix:PATH      what listens at a Unix socket: QEMU with `-netdev stream,server=on`,
                      passt, or `tcpip-wasm serve --qemu unix:PATH`
  qemu:tcp:HOST:PORT  the same by TCP, neither authenticated nor encrypted
  ws://HOST:PORT/     a relay, such as `tcpip-wasm relay`; needs pip install 'tcpip-wasm[websocket]'
"""


_SERVE_EXAMPLES: Final = """\
examples:
  tcpip-wasm serve . --qemu unix:/run/user/1000/vm.sock
      prints the options of QEMU that connect a guest; in it: wget http://files.internal/FILE
  tcpip-wasm serve . --link tap:tap0 --network 10.7.0.1/24 --network6 fd07::1/64
      for this machine, by its TAP device
  tcpip-wasm serve . --qemu unix:vm.sock --boot-file boot.ipxe
      for guests without a disk
  tcpip-wasm serve . --qemu unix:vm.sock --forward-names
      for guests that look up other names

"""


def add_network_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add serve, ping, capture and relay to the commands of a parser."""
    _add_serve(commands)
    _add_ping(commands)
    _add_capture(commands)
    _add_relay(commands)


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "serve",
        "serve a folder to virtual machines, with DHCP, DNS, HTTP and TFTP, by IPv4 and IPv6",
        "Serves a folder by HTTP and TFTP to guests on a network of their own. Guests get an IPv4 address by DHCP, "
        "make an IPv6 address of the prefix that is advertised, and resolve the server's name by DNS. Nothing outside "
        "of the folder can be read; the network leads nowhere else.",
        _SERVE_EXAMPLES + _LINK_HELP,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        *("-q", "--qemu"),
        action="append",
        default=[],
        metavar="ADDRESS",
        type=_of(_listening),
        help="listen for virtual machines at unix:PATH or tcp:HOST:PORT; repeatable. QEMU's option is printed",
    )
    parser.add_argument(
        *("-l", "--link"),
        action="append",
        default=[],
        metavar="LINK",
        type=_of(parse_outside),
        help="join the network to something that is there already, see below; repeatable",
    )
    parser.add_argument(
        "--network",
        default="10.0.0.1/24",
        metavar="ADDRESS/PREFIX",
        type=_of(_network),
        help="the server's address, and with its prefix the network of the guests; %(default)s",
    )
    parser.add_argument(
        "--network6",
        default="fd00::1/64",
        metavar="ADDRESS/64",
        type=_of(_network6),
        help="the same for IPv6; %(default)s. `none` leaves IPv6 out",
    )
    parser.add_argument(
        "--name", default="files.internal", metavar="NAME", type=_of(_name), help="the server's name; %(default)s"
    )
    parser.add_argument(
        "--forward-names",
        action="store_true",
        help="answer for other names, too, by the name servers in /etc/resolv.conf; without it there are no other "
        "names. Guests do not reach the addresses, but their questions leave the machine",
    )
    parser.add_argument(
        "--name-server",
        action="append",
        default=[],
        metavar="ADDRESS",
        type=_of(_name_server),
        help="forward other names to this one instead; repeatable",
    )
    parser.add_argument("-p", "--port", default=80, metavar="PORT", type=_of(_port), help="of HTTP; %(default)s")
    parser.add_argument("--boot-file", metavar="PATH", help="what guests boot by PXE, a file of the folder")
    _set_run(parser, "serve", _check_served)


def _add_ping(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "ping",
        "send echo requests over a link",
        "Sends echo requests from a stack of its own over a link. The exit status is 0 if a reply came.",
        "example:\n  tcpip-wasm ping 10.0.0.1 --link qemu:unix:/run/user/1000/vm.sock --ip dhcp -c 3\n\n" + _LINK_HELP,
    )
    parser.add_argument("host", metavar="HOST", help="name or address")
    _add_link(parser)
    parser.add_argument(
        "--ip",
        required=True,
        metavar="ADDRESS/PREFIX",
        type=_of(lambda text: text if text == "dhcp" else ip_interface(text)),
        help="own address, such as 10.0.0.9/24, or `dhcp`",
    )
    parser.add_argument("--gateway", metavar="ADDRESS", type=_of(ip_address), help="the default router")
    parser.add_argument("--name-server", metavar="ADDRESS", type=_of(ip_address), help="of the name; DHCP gives one")
    parser.add_argument(
        "-c", "--count", metavar="N", type=_of(_positive), help="number of requests; by default until Ctrl-C"
    )
    parser.add_argument(
        *("-i", "--interval"), default=1.0, metavar="SECONDS", type=_of(_seconds), help="between requests; %(default)s"
    )
    parser.add_argument(
        "--timeout", default=1.0, metavar="SECONDS", type=_of(_seconds), help="for a reply; %(default)s"
    )
    _set_run(parser, "ping")


def _add_capture(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "capture",
        "write the frames of a link into a pcapng file",
        "Writes the frames that a link delivers, and those that the stack sends, into a pcapng file, which is replaced "
        "if it exists. Without --ip the stack sends nothing.",
        "example:\n  tcpip-wasm capture - --link ws://127.0.0.1:8086/ | wireshark -k -i -\n\n" + _LINK_HELP,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="`-` is the standard output")
    _add_link(parser)
    parser.add_argument(
        "--ip", metavar="ADDRESS/PREFIX", type=_of(ip_interface), help="own address, which answers ARP and ping"
    )
    parser.add_argument(
        "-c", "--count", metavar="N", type=_of(_positive), help="end after N frames or a few more; default: at Ctrl-C"
    )
    _set_run(parser, "record")


def _add_relay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "relay",
        "an Ethernet network for guests that connect by WebSockets, such as v86",
        "Makes an Ethernet network of the guests that connect by WebSockets, one frame a message: v86 in a page "
        "(`relay_url`), other stacks (`--link ws://HOST:PORT/`). Needs pip install 'tcpip-wasm[websocket]'.",
        "example:\n  tcpip-wasm relay --port 8086 --origin http://localhost:8000",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where it listens; %(default)s. Guests need no password"
    )
    parser.add_argument(
        *("-p", "--port"), default=8086, metavar="PORT", type=_of(_port), help="%(default)s; 0 takes a free one"
    )
    parser.add_argument(
        *("-o", "--origin"),
        action="append",
        default=[],
        metavar="ORIGIN",
        help="of pages that may connect, such as http://localhost:8000; repeatable, by default none",
    )
    parser.add_argument("--ip", metavar="ADDRESS/PREFIX", type=_of(ip_interface), help="an address that answers ping")
    parser.add_argument("--max-guests", default=64, metavar="N", type=_of(_positive), help="%(default)s")
    _set_run(parser, "relay")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    # The formatter leaves line breaks as they are, which the examples need: the description is wrapped here.
    return commands.add_parser(
        name,
        help=text,
        description=fill(description, 79),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_link(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-l", "--link", required=True, metavar="LINK", type=_of(parse_outside), help=f"{FORMS}, see below"
    )


def _set_run(
    parser: argparse.ArgumentParser,
    module: str,
    check: Callable[[argparse.ArgumentParser, argparse.Namespace], None] | None = None,
) -> None:
    def start(options: argparse.Namespace) -> int:
        if check is not None:
            check(parser, options)
        return run(getattr(import_module(f"tcpip_wasm.commands.{module}"), module)(options))

    parser.set_defaults(run=start)


def _check_served(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not options.qemu and not options.link:
        parser.error("--qemu or --link is needed: where do the guests come from?")


def _of(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return the function with errors that argparse prints as they are."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _listening(text: str) -> str:
    from tcpip_wasm.links.transport_address import parse_address

    return str(parse_address(text, kinds=("unix", "tcp"), argument="where guests connect"))


def _network(text: str) -> IPv4Interface:
    from tcpip_wasm.commands.serve import pool_of

    network = IPv4Interface(text)
    pool_of(network)
    return network


def _network6(text: str) -> IPv6Interface | None:
    from tcpip_wasm.commands.serve import network6_of

    return network6_of(text)


def _name(text: str) -> str:
    from tcpip_wasm.names.hostname import host_name

    try:
        return host_name(text)
    except ValueError:
        raise ValueError(f"{text!r} is no name of a host") from None


def _name_server(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    if address.is_unspecified or address.is_multicast or int(address) == 0xFFFFFFFF:
        raise ValueError(f"{text}: no name server has this address")
    if isinstance(address, IPv6Address) and address.is_link_local and not address.scope_id:
        raise ValueError(f"{text}: its interface is needed, too, as in {text}%eth0")
    return address


def _port(text: str) -> int:
    return _within(text, 0, 65535)


def _positive(text: str) -> int:
    return _within(text, 1, 1 << 31)


def _within(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise ValueError(f"a whole number of {least} to {most} is needed, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86400:
        raise ValueError(f"seconds of more than 0 and at most 86400 are needed, not {text!r}")
    return value

"""``tcpip-wasm serve``: a folder for guests, with the addresses and the names that they need to reach it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface
from typing import TYPE_CHECKING, Final

from tcpip_wasm.commands.outside import naming, opened, until_end
from tcpip_wasm.commands.running import say
from tcpip_wasm.interfaces import BridgeInterface
from tcpip_wasm.stack import NetworkStack, create_stack

if TYPE_CHECKING:
    from tcpip_wasm.links import GuestListener, Link
    from tcpip_wasm.names import Resolver
    from tcpip_wasm.services.service import Service

__all__ = ["network6_of", "pool_of", "qemu_options", "serve"]

_NO_NETWORKS: Final = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")))
_ZEROS: Final = IPv6Network("::/64")
"""The loopback address, and those that are written as IPv4 addresses."""

MOST_ADDRESSES: Final = 4096
"""Addresses of the pool at most; a larger network has addresses that are not lent."""


async def serve(options: argparse.Namespace) -> int:
    """Serve until cancelled.

    Raises:
        OSError: a socket or a device cannot be opened, or a link has ended.
        ImportError: the server needs a library that is not installed.
    """
    from tcpip_wasm.services import Dhcp6Server, DhcpServer, DnsServer, HttpServer, TftpServer

    network: IPv4Interface = options.network
    network6: IPv6Interface | None = options.network6
    domain = options.name.partition(".")[2]
    async with AsyncExitStack() as exits:
        stack = await exits.enter_async_context(await create_stack())
        both = [str(one) for one in (network, network6) if one is not None]
        bridge = await stack.create_bridge_interface(ip=both, ipv6=network6 is not None)
        own = str(network.ip)
        # All are made before the first is started: a library that is not installed is reported before a guest connects.
        services: list[Service] = [
            DhcpServer(
                bridge,
                pool=pool_of(network),
                name_servers=[own],
                domain=domain or None,
                boot_file=options.boot_file,
            ),
            DnsServer(
                stack,
                records={options.name: [str(ip_interface(one).ip) for one in both]},
                forward=_forwarding_resolver(options),
                zones=[domain] if domain else [],
            ),
            HttpServer(stack, options.folder, port=options.port),
            TftpServer(stack, options.folder),
        ]
        if network6 is not None:
            # Without a pool: guests make addresses of the advertised prefix, which needs no client of DHCPv6.
            boot_url = options.boot_file and f"tftp://[{network6.ip}]/{options.boot_file}"
            search = [domain] if domain else []
            services.append(Dhcp6Server(bridge, name_servers=[network6.ip], search=search, boot_file=boot_url))
        for service in services:
            await exits.enter_async_context(service)
        listeners, links = await _open(exits, stack, bridge, options)
        where = "" if options.port == 80 else f":{options.port}"
        hosts = [own, *([f"[{network6.ip}]"] if network6 is not None else []), options.name]
        say(f"{options.folder} is at {', '.join(f'http://{host}{where}/' for host in hosts)} and tftp://{own}/")
        for listener in listeners:
            say(f"for each guest: qemu-system-x86_64 ... {qemu_options(listener.address)}")
        for name in links:
            say(f"joined to {name}")
        say("Ctrl-C ends it")
        await until_end(links, asyncio.Event().wait())
    return 0


async def _open(
    exits: AsyncExitStack, stack: NetworkStack, bridge: BridgeInterface, options: argparse.Namespace
) -> tuple[list[GuestListener], dict[str, Link]]:
    """Make what is named by the options a port of the bridge each."""
    from tcpip_wasm.links import bridge_port, listen_qemu

    attach = bridge_port(stack, bridge)
    listeners: list[GuestListener] = []
    for address in options.qemu:
        with naming(address):
            listener = await listen_qemu(address, attach)
        listeners.append(await exits.enter_async_context(listener))
    links: dict[str, Link] = {}
    for outside in options.link:
        tap = await stack.create_tap_interface(ipv6=False)
        await bridge.add_port(tap)
        links[outside.text] = await exits.enter_async_context(opened(outside, tap))
    return listeners, links


def _forwarding_resolver(options: argparse.Namespace) -> Resolver | None:
    """Return the resolver of names that are not the server's, or None where they are not forwarded."""
    if not options.forward_names and not options.name_server:
        return None
    from tcpip_wasm.commands.machine_names import machine_resolver, machine_servers

    servers = options.name_server or machine_servers()
    say(f"other names are forwarded to {', '.join(map(str, servers))}")
    return machine_resolver([str(server) for server in servers])


def pool_of(network: IPv4Interface) -> tuple[IPv4Address, IPv4Address]:
    """Return the first and the last address to lend: all of the network, of which the server keeps its own.

    Raises:
        ValueError: the network has no address beside the server's, or guests take no addresses of it.
    """
    hosts: IPv4Network = network.network
    if any(map(hosts.overlaps, _NO_NETWORKS)):
        raise ValueError(f"{network}: no network of guests")
    if hosts.prefixlen > 30:
        raise ValueError(f"{network}: a prefix of 30 bits at most is needed, for a guest beside the server")
    if network.ip in (hosts.network_address, hosts.broadcast_address):
        raise ValueError(f"{network}: no host may have this address")
    return hosts[1], hosts[min(hosts.num_addresses - 2, MOST_ADDRESSES)]


def network6_of(text: str) -> IPv6Interface | None:
    """Return the server's address with its network, or None for the text ``none``.

    Args:
        text: an IPv6 address and a prefix of 64 bits, such as ``fd00::1/64``, or ``none``.

    Raises:
        ValueError: the text is neither, or guests make no addresses of the network (RFC 4862).
    """
    if text == "none":
        return None
    try:
        network = IPv6Interface(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if network.network.prefixlen != 64:
        raise ValueError(f"{text}: a prefix of 64 bits is needed, of which guests make addresses")
    special = network.is_link_local or network.is_multicast or network.network == _ZEROS
    if special or "%" in text:
        raise ValueError(f"{text}: guests make no addresses of this network")
    if network.ip == network.network.network_address:
        raise ValueError(f"{text}: no host may have this address")
    return network


def qemu_options(address: str) -> str:
    """Return what connects a virtual machine of QEMU to a listener.

    Args:
        address: the listener's, ``unix:PATH`` or ``tcp:HOST:PORT``.
    """
    kind, _, rest = address.partition(":")
    parts: Iterable[str]
    if kind == "unix":
        parts = ("addr.type=unix", f"addr.path={rest.replace(',', ',,')}")
    else:
        host, _, port = rest.rpartition(":")
        parts = ("addr.type=inet", f"addr.host={host.strip('[]')}", f"addr.port={port}")
    return f"-device virtio-net-pci,netdev=card -netdev stream,id=card,server=off,{','.join(parts)}"

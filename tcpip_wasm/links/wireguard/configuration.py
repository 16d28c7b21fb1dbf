"""The configuration files of `wg` and `wg-quick`: `read_wireguard_configuration`.

Owns their syntax (wg(8), wg-quick(8)). Must not open sockets or make interfaces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from os import PathLike
from pathlib import Path
from typing import Any, Final

from tcpip_wasm.links.wireguard.keys import parse_key
from tcpip_wasm.links.wireguard.peer import WireGuardPeer

_INTERFACE: Final = {"privatekey", "listenport", "address", "mtu", "dns"}
_IGNORED: Final = {"fwmark", "table", "preup", "postup", "predown", "postdown", "saveconfig"}
"""Of the machine's routes and programs, which a stack does not have."""
_PEER: Final = {"publickey", "presharedkey", "allowedips", "endpoint", "persistentkeepalive"}
_REPEATED: Final = {"address", "dns", "allowedips"} | _IGNORED


@dataclass(frozen=True, kw_only=True)
class WireGuardConfiguration:
    """What a configuration file says.

    Attributes:
        private_key: in base64.
        listen_port: 0 is any.
        peers: as for `WireGuard.create`.
        addresses: of the interface, for `create_tun_interface(ip=…)`.
        mtu: of the interface in bytes, or None.
        dns: addresses of name servers, and domains to search.
    """

    private_key: str = field(repr=False)
    listen_port: int = 0
    peers: tuple[WireGuardPeer, ...] = ()
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    mtu: int | None = None
    dns: tuple[str, ...] = ()


def read_wireguard_configuration(source: str | PathLike[str]) -> WireGuardConfiguration:
    """Read a configuration.

    Args:
        source: a path, or the text of a file as `str` with a line ``[Interface]``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is malformed; the error has the line, and no key.
    """
    text = source if isinstance(source, str) and "[" in source else Path(source).read_text(encoding="utf-8")
    interface: dict[str, list[str]] = {}
    peers: list[dict[str, list[str]]] = []
    section: dict[str, list[str]] | None = None
    known: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        if line.lower() == "[interface]":
            section, known = interface, _INTERFACE | _IGNORED
        elif line.lower() == "[peer]":
            section, known = {}, _PEER
            peers.append(section)
        else:
            name, equals, value = line.partition("=")
            name, value = name.strip().lower(), value.strip()
            if section is None or not equals or not value:
                raise ValueError(f"line {number}: a section or NAME = VALUE is needed")
            if name not in known:
                raise ValueError(f"line {number}: {name!r} is no name of this section")
            if name in section and name not in _REPEATED:
                raise ValueError(f"line {number}: {name!r} is there twice")
            try:
                _check(name, value)
            except ValueError as problem:
                raise ValueError(f"line {number}: {problem}") from None
            section.setdefault(name, []).append(value)
    if "privatekey" not in interface:
        raise ValueError("[Interface] with PrivateKey is needed")
    return WireGuardConfiguration(
        private_key=interface["privatekey"][0],
        listen_port=int(interface.get("listenport", ["0"])[0]),
        peers=tuple(map(_peer, peers)),
        addresses=tuple(ip_interface(each) for each in _list(interface.get("address"))),
        mtu=int(interface["mtu"][0]) if "mtu" in interface else None,
        dns=tuple(_list(interface.get("dns"))),
    )


def _list(values: list[str] | None) -> list[str]:
    return [each.strip() for value in values or () for each in value.split(",") if each.strip()]


def _check(name: str, value: str) -> None:
    if name.endswith("key"):
        parse_key(name, value)
    elif name == "listenport":
        _number(name, value, 0, 65535)
    elif name == "mtu":
        _number(name, value, 68, 65535)
    elif name == "persistentkeepalive":
        if value.lower() != "off":
            _number(name, value, 0, 65535)
    elif name == "endpoint":
        _endpoint(value)
    elif name in ("address", "allowedips"):
        for each in _list([value]):
            ip_interface(each)


def _number(name: str, value: str, lowest: int, highest: int) -> int:
    if not value.isascii() or not value.isdigit() or not lowest <= int(value) <= highest:
        raise ValueError(f"{name}: {lowest} to {highest} is needed, not {value!r}")
    return int(value)


def _endpoint(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"endpoint: [ADDRESS]:PORT is needed, not {value!r}")
    if not host:
        raise ValueError(f"endpoint: HOST:PORT is needed, not {value!r}")
    return host, _number("endpoint", port, 1, 65535)


def _peer(values: dict[str, list[str]]) -> WireGuardPeer:
    if "publickey" not in values:
        raise ValueError("[Peer] with PublicKey is needed")
    options: dict[str, Any] = {}
    if "presharedkey" in values:
        options["preshared_key"] = values["presharedkey"][0]
    if "endpoint" in values:
        options["endpoint"] = _endpoint(values["endpoint"][0])
    interval = values.get("persistentkeepalive", ["off"])[0].lower()
    if interval not in ("off", "0"):
        options["keepalive"] = int(interval)
    return WireGuardPeer(public_key=values["publickey"][0], allowed_ips=_list(values.get("allowedips")), **options)

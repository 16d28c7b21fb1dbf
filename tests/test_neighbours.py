"""A transfer among a hundred thousand forged neighbours: it continues, and memory does not grow."""

from __future__ import annotations

from struct import pack

import pytest

from tests.kit.core_network import START, Host, Network, payload

_FORGED = 100_000
_BURST = 250
"""Forged frames between two steps of the transfer."""


def arp(number: int, target: Host) -> bytes:
    """An ARP request for the target, or a reply to it, from a forged host of the same network."""
    mac = b"\x02\x09" + pack(">I", number)
    forged = pack(">I", 0x0A000000 + 0x10000 + number)
    owned = target.addresses[0].ip.packed
    return b"\xff" * 6 + mac + b"\x08\x06\0\1\x08\0\6\4" + pack(">H", 1 + number % 2) + mac + forged + bytes(6) + owned


def _icmp6(source: bytes, target: bytes, message: bytes, mac: bytes) -> bytes:
    data = source + target + pack(">IHBB", len(message), 0, 0, 58) + message
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    message = message[:2] + pack(">H", total) + message[4:]
    return b"\xff" * 6 + mac + b"\x86\xdd" + pack(">IHBB", 6 << 28, len(message), 58, 255) + source + target + message


def solicitation(number: int, target: Host) -> bytes:
    """A neighbour solicitation for the target, or an advertisement to it, from such a host."""
    mac = b"\x02\x09" + pack(">I", number)
    forged = bytes.fromhex("fd00000000000000") + pack(">Q", 1 << 32 | number)
    owned = target.addresses[1].ip.packed
    if number % 2:
        message = b"\x88\0\0\0\x60\0\0\0" + forged + b"\2\1" + mac
    else:
        message = b"\x87\0\0\0\0\0\0\0" + owned + b"\1\1" + mac
    return _icmp6(forged, owned, message, mac)


def echo(number: int, target: Host) -> bytes:
    """An echo request from such a host, whose answer needs neighbour resolution."""
    mac = b"\x02\x09" + pack(">I", number)
    forged = bytes.fromhex("fd00000000000000") + pack(">Q", 2 << 32 | number)
    return _icmp6(forged, target.addresses[1].ip.packed, b"\x80\0\0\0\0\0\0\0", mac)


@pytest.mark.parametrize(("forge", "address"), [(arp, 0), (solicitation, 1), (echo, 1)])
def test_a_flood_of_forged_neighbours(forge: object, address: int) -> None:
    assert callable(forge)
    a = Host("10.0.0.1/8", "fd00::1/64", seed=1)
    b = Host("10.0.0.2/8", "fd00::2/64", seed=2)
    b.listen(80)
    network = Network(a, b)
    client, server = network.open(address=address)
    data = payload(8_000_000)
    client.write(data[: len(data) // 2])
    network.run(lambda: client.written)
    before = [host.core.statistics().memory for host in (a, b)]
    forged = 0
    slices = iter(range(len(data) // 2, len(data), len(data) * _BURST // _FORGED // 2))
    while forged < _FORGED:
        for host in (a, b):
            for _ in range(_BURST):
                assert host.buffers.receive_frame(forge(forged, host))
                forged += 1
            host.dirty = True
        at = next(slices, None)
        if at is not None:
            client.write(data[at : at + len(data) * _BURST // _FORGED // 2])
        for _ in range(4):
            network.step()
    for at in slices:
        client.write(data[at : at + len(data) * _BURST // _FORGED // 2])
    client.finish()
    network.run(lambda: server.eof)
    assert bytes(server.received) == data
    took = network.now - START
    assert took < 60, f"{took} virtual seconds"
    asked = [frame for frame in a.sent if frame[12:14] == b"\x08\x06" and frame[38:42] == b.addresses[0].ip.packed]
    assert len(asked) <= 2, "a host that is talked to is not asked after again"
    for host, memory in zip((a, b), before, strict=True):
        assert host.core.statistics().memory <= memory + (1 << 20)

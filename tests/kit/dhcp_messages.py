"""Messages of DHCP clients, as bytes, and a client that is nothing but a UDP socket behind a relay."""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import pack
from typing import Any

from tcpip_wasm import UdpDatagram, UdpSocket
from tcpip_wasm.engine import dhcp_options

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
NONE = "0.0.0.0"


def message(
    kind: int,
    mac: str,
    options: dict[int, bytes] | None = None,
    *,
    transaction: int = 1,
    client: str = NONE,
    relay: str = NONE,
    flags: int = 0,
) -> bytes:
    """Return a message of a client (RFC 2131, section 2)."""
    fixed = pack(">BBBBIHH", 1, 1, 6, 0, transaction, 0, flags)
    fixed += IPv4Address(client).packed + bytes(8) + IPv4Address(relay).packed
    fixed += bytes.fromhex(mac.replace(":", "")) + bytes(10 + 192) + b"\x63\x82\x53\x63"
    body = bytes([53, 1, kind])
    for code, value in (options or {}).items():
        body += bytes([code, len(value)]) + value
    return fixed + body + b"\xff"


class Answer:
    """A reply of a server."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.options = dhcp_options(data)
        self.kind = self.options[53][0]
        self.transaction = int.from_bytes(data[4:8])
        self.address = str(IPv4Address(data[16:20]))
        self.next_server = str(IPv4Address(data[20:24]))
        self.server_name = data[44:108].rstrip(b"\0")
        self.file = data[108:236].rstrip(b"\0")

    def __repr__(self) -> str:
        return f"<Answer {self.kind} {self.address} {self.options}>"


def addresses(*texts: str) -> bytes:
    """Return addresses as an option has them."""
    return b"".join(IPv4Address(text).packed for text in texts)


def forged_mac(number: int) -> str:
    """Return one of many hardware addresses."""
    return (b"\x02" + number.to_bytes(5)).hex(":")


class Client:
    """Sends messages of any client from a stack with an address, by a UDP socket on port 68 or 67.

    Args:
        udp: the socket.
        server: address of the server.
    """

    def __init__(self, udp: UdpSocket, server: str) -> None:
        self.udp = udp
        self.server = server
        self.transaction = 1000

    async def send(self, data: bytes, host: str | None = None) -> None:
        """Send bytes to the server, or by broadcast."""
        await self.udp.send(UdpDatagram(host or self.server, 67, data))

    async def answer(self) -> Answer:
        """Return the next reply."""
        return Answer((await self.udp.receive()).data)

    async def lease(self, mac: str, options: dict[int, bytes] | None = None, **fields: Any) -> Answer:
        """Discover and request; return the last answer."""
        self.transaction += 1
        fields["transaction"] = self.transaction
        await self.send(message(DISCOVER, mac, options, **fields))
        offer = await self._own_answer()
        assert offer.kind == OFFER, offer
        wanted = {50: addresses(offer.address), 54: offer.options[54], **(options or {})}
        await self.send(message(REQUEST, mac, wanted, **fields))
        return await self._own_answer()

    async def _own_answer(self) -> Answer:
        while (answer := await self.answer()).transaction != self.transaction:
            pass  # broadcast to another client
        return answer

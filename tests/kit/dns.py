"""A DNS server on a stack, whose answers the test scripts, and a network with a client.

Messages are built by dnspython, or are bytes that the test builds. `Zone` answers as a real server does; any callable
may replace it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tcpip_wasm import NetworkStack, connect, create_stack

SERVER = "10.0.0.53"
CLIENT = "10.0.0.1"


@dataclass(frozen=True)
class Query:
    """A query that arrived.

    Attributes:
        message: the message.
        source: its sender, as (host, port).
        by: ``"udp"`` or ``"tcp"``.
        at: the loop's time of its arrival.
    """

    message: dns.message.Message
    source: tuple[Any, ...]
    by: str
    at: float

    @property
    def name(self) -> str:
        """The name of the question, without the last dot."""
        return self.message.question[0].name.to_text(omit_final_dot=True).lower()

    @property
    def type(self) -> str:
        """The type of the question, such as ``"AAAA"``."""
        return dns.rdatatype.to_text(self.message.question[0].rdtype)

    def answer(self, *records: str, rcode: str = "NOERROR", authority: tuple[str, ...] = ()) -> dns.message.Message:
        """Return an answer with records such as ``"www.test 60 A 10.0.0.9"``."""
        message = dns.message.make_response(self.message, recursion_available=True)
        message.set_rcode(dns.rcode.from_text(rcode))
        for section, texts in ((message.answer, records), (message.authority, authority)):
            for text in texts:
                name, ttl, rdtype, value = text.split(maxsplit=3)
                owner = dns.name.from_text(name)
                one = dns.rrset.from_text(owner, int(ttl), "IN", rdtype, value)
                found = next((r for r in section if r.name == owner and r.rdtype == one.rdtype), None)
                if found is None:
                    section.append(one)
                else:
                    found.add(one[0], int(ttl))
        return message


Rule = Callable[[Query], "list[bytes] | bytes | None"]
"""Returns the answer to a query: datagrams, or for a query by TCP the message; None sends none."""


class Zone:
    """Records by name, and negative answers with an SOA for other names. Long answers by UDP are truncated (TC).

    Args:
        text: a record a line.
        origin: owner of the SOA.
        negative_ttl: TTL of negative answers in seconds.
    """

    def __init__(self, text: str, *, origin: str = "test", negative_ttl: int = 60) -> None:
        self._records: dict[str, list[list[str]]] = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            fields = line.split(maxsplit=3)
            self._records.setdefault(fields[0].lower(), []).append(fields)
        self._soa = f"{origin} {negative_ttl} SOA ns.{origin}. root.{origin}. 1 7200 900 1209600 {negative_ttl}"

    def __call__(self, asked: Query) -> bytes:
        name, lines = asked.name, []
        while True:
            here = self._records.get(name)
            alias = next((fields for fields in here or () if fields[2] == "CNAME"), None)
            if alias is None or asked.type == "CNAME":
                break
            lines.append(" ".join(alias))
            name = alias[3].rstrip(".").lower()
        found = [" ".join(fields) for fields in here or () if fields[2] == asked.type]
        rcode = "NXDOMAIN" if here is None else "NOERROR"
        message = asked.answer(*lines, *found, rcode=rcode, authority=() if found else (self._soa,))
        packed = message.to_wire(max_size=65535)
        if asked.by == "udp" and len(packed) > max(512, asked.message.payload):
            message.answer.clear()
            message.flags |= dns.flags.TC
            packed = message.to_wire()
        return packed


@dataclass
class DnsServer(asyncio.DatagramProtocol):
    """A server by UDP and TCP.

    Attributes:
        rule: returns its answers.
        asked: the queries that arrived.
    """

    rule: Rule
    asked: list[Query] = field(default_factory=list)
    transport: Any = None

    async def serve(self, stack: NetworkStack, host: str, port: int = 53) -> DnsServer:
        """Listen on a stack until the stack is closed."""
        await stack.create_datagram_endpoint(lambda: self, (host, port))
        await stack.start_server(self._serve_stream, host, port)
        return self

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        answer = self._answer(data, addr, "udp")
        for one in [answer] if isinstance(answer, bytes) else answer or []:
            self.transport.sendto(one, addr)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                answer = self._answer(await reader.readexactly(size), writer.get_extra_info("peername"), "tcp")
                if not isinstance(answer, bytes):
                    break
                writer.write(len(answer).to_bytes(2, "big") + answer)
        except (EOFError, OSError):
            pass
        finally:
            writer.close()

    def _answer(self, data: bytes, source: Any, by: str) -> list[bytes] | bytes | None:
        asked = Query(dns.message.from_wire(data), source, by, asyncio.get_running_loop().time())
        self.asked.append(asked)
        return self.rule(asked)

    @property
    def names(self) -> list[tuple[str, str]]:
        """Name and type of each query, sorted."""
        return sorted((one.name, one.type) for one in self.asked)


@dataclass
class Network:
    """A client and a server, connected by a cable.

    Attributes:
        client, host: the stacks; `host` is the server's.
        server: the server on `host`.
    """

    client: NetworkStack
    host: NetworkStack
    server: DnsServer

    @property
    def asked(self) -> list[Query]:
        """The queries that arrived."""
        return self.server.asked


@asynccontextmanager
async def dns_network(rule: Rule, *, seed: int = 7) -> AsyncIterator[Network]:
    """Create a client with IPv4 and IPv6 addresses, and a server."""
    async with (
        await create_stack(seed=seed, name_server=(SERVER, 53)) as client,
        await create_stack(seed=seed + 1) as host,
    ):
        connect(
            await client.create_tap_interface(ip=[f"{CLIENT}/24", "fd00::1/64"]),
            await host.create_tap_interface(ip=[f"{SERVER}/24", "fd00::53/64"]),
        )
        yield Network(client, host, await DnsServer(rule).serve(host, SERVER))

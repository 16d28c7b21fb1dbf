"""DNS answers a second of `DnsServer` over a cable: by a function, from records, and from the cache of encoded answers.

The client keeps 64 questions under way, by UDP; the zone has 10,000 names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address
from statistics import median
from time import perf_counter
from typing import Any, Final

from benchmarks.report import Goal, Measure, progress
from tcpip_wasm import connect, create_stack
from tcpip_wasm.services import DnsServer

GROUP: Final = "DNS answers"
UNIT: Final = "answers/s"
NAMES: Final = 10_000
UNDER_WAY: Final = 64
SERVER: Final = "10.0.0.2"


class _Client(asyncio.DatagramProtocol):
    """Asks each question in turn, a new one for each answer."""

    def __init__(self, questions: Sequence[bytes], count: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._questions = questions
        self._count = count
        self._asked = self._answered = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        for _ in range(UNDER_WAY):
            self._ask()

    def _ask(self) -> None:
        self._transport.sendto(self._questions[self._asked % len(self._questions)])
        self._asked += 1

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert data[3] & 15 == 0, "an error"
        assert int.from_bytes(data[6:8]) == 1, "no answer"
        self._answered += 1
        if self._asked < self._count:
            self._ask()
        elif self._answered == self._count:
            self.done.set_result(None)


def _question(name: str) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return b"\0\1\1\0\0\1" + bytes(6) + labels + b"\0\0\1\0\1"


async def _answer(name: str, rdtype: str) -> list[str]:
    return ["10.9.9.9"]


async def measure(count: int, rounds: int) -> list[Measure]:
    """Measure with so many questions, at most 9,000, so that computed answers are computed."""
    zone = {f"host{n}.zone.lab": str(IPv4Address(0x0A000000 + n)) for n in range(NAMES)}
    cases = {
        "by a function": ([_question(f"name{n}.other.lab") for n in range(NAMES)], 2_000.0),
        "from 10,000 names": ([_question(f"host{n}.zone.lab") for n in range(NAMES)], 2_000.0),
        "encoded before": ([_question(f"host{n}.zone.lab") for n in range(100)], 5_000.0),
    }
    measures = []
    async with await create_stack(seed=1) as client, await create_stack(seed=2) as host:
        connect(await client.create_tap_interface(ip="10.0.0.1/24"), await host.create_tap_interface(ip=f"{SERVER}/24"))
        for name, (questions, goal) in cases.items():
            figures = []
            for _ in range(rounds):
                progress(f"{GROUP}: {name}")
                async with DnsServer(host, records=zone, handler=_answer):
                    began = perf_counter()
                    transport, protocol = await client.create_datagram_endpoint(
                        lambda questions=questions: _Client(questions, count),  # type: ignore[misc]
                        remote_addr=(SERVER, 53),
                    )
                    await protocol.done
                    figures.append(count / (perf_counter() - began))
                    transport.abort()
            measures.append(Measure(GROUP, name, median(figures), UNIT, goal=Goal(goal, of="value")))
    return measures

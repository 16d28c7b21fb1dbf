"""Log records for operators: their texts, and that they cost nothing without handlers."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Any

import pytest

from tcpip_wasm import LoopbackInterface, NetworkStack, StackTrappedError, TapInterface, connect, create_stack
from tcpip_wasm.engine import Core, Statistics
from tcpip_wasm.interfaces.drops import PERIOD
from tcpip_wasm.log_limit import BURST, LogLimit
from tcpip_wasm.simulation import VirtualLoop, run_virtually
from tests.kit.dhcp import LEASED, SERVER, dhcp_server
from tests.kit.frames import IPV4, UDP, ethernet, ipv4
from tests.kit.stacks import pair

MALFORMED = b"\xff" * 12 + b"\x08\0" + b"\x45" + b"\0" * 30


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "tcpip_wasm")
    return caplog


def said(caplog: pytest.LogCaptureFixture, name: str, level: int) -> list[str]:
    """Return the texts of one logger and level, and remove them."""
    found = [record for record in caplog.records if record.name == f"tcpip_wasm.{name}" and record.levelno == level]
    for record in found:
        caplog.records.remove(record)
    return [record.getMessage() for record in found]


def infos(caplog: pytest.LogCaptureFixture, name: str, words: str) -> list[str]:
    return [text for text in said(caplog, name, logging.INFO) if words in text]


# --- Configuration --------------------------------------------------------------------------------------------------


def test_a_lease_is_gained_renewed_lost_and_released(records: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            tap = await stack.create_tap_interface()
            async with dhcp_server(tap) as server:
                await tap.configure(dhcp=True)
                assert infos(records, "interfaces", "lease") == [
                    f"tap0: lease of {LEASED}/24 from {SERVER} gained for 3600 s"
                ]
                assert said(records, "names", logging.INFO) == [
                    "tap0: name servers 10.0.0.53 port 53, search list lab.example"
                ]
                await asyncio.sleep(1900)
                assert infos(records, "interfaces", "lease") == [
                    f"tap0: lease of {LEASED}/24 from {SERVER} renewed for 3600 s"
                ]
                server.answers = False
                await tap.wait_address_change(timeout=4000)
                lost = said(records, "interfaces", logging.WARNING)
                assert lost == [f"tap0: lease of {LEASED}/24 from {SERVER} lost"]
                assert said(records, "names", logging.INFO) == ["tap0: no name servers any more"]
                server.answers = True
                await tap.wait_address_change(timeout=120)
                await tap.release()
                assert infos(records, "interfaces", "lease") == [
                    f"tap0: lease of {LEASED}/24 from {SERVER} gained for 3600 s",
                    f"tap0: lease of {LEASED}/24 released",
                ]

    run_virtually(main())


def test_a_duplicate_address_is_a_warning(records: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            one = await a.create_tap_interface(ip="fd00::1/64")
            other = await b.create_tap_interface(ip="fd00::1/64")
            connect(one, other)
            with pytest.raises(OSError, match="another host has fd00::1"):
                await other.configure(dad=True)
            assert said(records, "interfaces", logging.WARNING) == ["tap0: duplicate address: another host has fd00::1"]

    run_virtually(main())


@pytest.mark.parametrize("how", ["withdrawn", "silent"])
def test_routers_are_found_and_lost(how: str, records: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            router = await a.create_tap_interface(ip="2001:db8:1::1/64")
            host = await b.create_tap_interface()
            connect(router, host)
            advertiser = await router.advertise("2001:db8:1::/64", router_lifetime=1800)
            await host.configure(slaac=True)
            scoped = f"{router.link_local}%tap0"
            (address,) = host.addresses
            texts = said(records, "interfaces", logging.INFO)
            assert f"tap0: router {scoped} found" in texts
            assert f"tap0: address {address} made from an advertised prefix" in texts
            if how == "withdrawn":
                await advertiser.close()
            else:
                a.abort()
                await asyncio.sleep(1900)
                await b.open_udp(port=9)  # a lifetime wakes nothing; what the stack does next looks at it
                with pytest.raises(TimeoutError):
                    await b.connect_tcp("2001:db8:1::1", 80, timeout=30)
            assert said(records, "interfaces", logging.WARNING) == [f"tap0: router {scoped} lost"]

    run_virtually(main())


def test_the_rate_of_records_is_limited(records: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    limit = LogLimit(logging.getLogger("tcpip_wasm.interfaces"), lambda: now[0])
    for _ in range(1000):
        limit.log(logging.WARNING, "router %s lost", "fe80::1")
    assert len(said(records, "interfaces", logging.WARNING)) == BURST
    now[0] = 61.0
    limit.log(logging.WARNING, "router %s lost", "fe80::2")
    assert said(records, "interfaces", logging.WARNING) == [
        f"{1000 - BURST} records were left out",
        "router fe80::2 lost",
    ]


# --- Drops and faults -----------------------------------------------------------------------------------------------


class Sink:
    """A port that accepts all frames and discards them."""

    def transmit(self, records: memoryview) -> int:
        return len(records)

    def detached(self, error: Exception | None) -> None:
        """Without effect."""


async def a_tap(stack: NetworkStack) -> TapInterface:
    tap = await stack.create_tap_interface("02:00:00:00:00:01", "10.0.0.1/24")
    tap.attach(Sink())
    await asyncio.sleep(0)
    return tap


def test_drops_are_reported_by_cause_at_a_limited_rate(records: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await create_stack(seed=1) as stack:
            tap = await a_tap(stack)
            times: list[float] = []
            counts: list[str] = []
            await asyncio.sleep(5)
            said(records, "interfaces", logging.INFO)  # what was sent before the port was there
            for _ in range(30):
                tap.inject(MALFORMED)
                tap.inject(ethernet(b"\2\0\0\0\0\x77", b"\2\0\0\0\0\2", IPV4, b"\x45" + bytes(40)))  # another station
                await asyncio.sleep(10)
                news = infos(records, "interfaces", "dropped")
                if news:
                    times.append(loop.time())
                    counts += news
            assert len(times) == 5
            assert min(later - earlier for earlier, later in pairwise(times)) >= PERIOD
            impossible = [text for text in counts if "impossible" in text]
            assert impossible[0] == "tap0: frames dropped, impossible lengths or addresses: 1 more, 1 in all"
            assert impossible[1] == "tap0: frames dropped, impossible lengths or addresses: 6 more, 7 in all"
            assert [text for text in counts if "another station" in text][1].endswith(": 6 more, 7 in all")
            assert len(counts) == 10
        (last, _) = infos(records, "interfaces", "dropped")
        assert last == "tap0: frames dropped, impossible lengths or addresses: 5 more, 30 in all"

    run_virtually(main())


def test_packets_that_the_stack_drops(records: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            tap = await a_tap(stack)
            datagram = ipv4("10.0.0.2", "10.0.0.1", UDP, b"\0\x35\x12\x34\0\x09\xde\xadx")  # a wrong checksum
            for _ in range(3):
                tap.inject(ethernet(b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", IPV4, datagram))
            await asyncio.sleep(1)
            assert stack.stats().core.checksum_errors == 3
            await stack.remove_interface(tap)
        assert "packets dropped, wrong checksum: 3 more, 3 in all" in said(records, "stack", logging.INFO)

    run_virtually(main())


def test_failed_checks_are_a_warning(records: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Core.counted
    failures = [0]

    def with_failures(core: Core) -> Statistics:
        return replace(counted(core), inconsistencies=failures[0])

    monkeypatch.setattr(Core, "counted", with_failures)
    records.set_level(logging.WARNING, "tcpip_wasm")  # as it is where a program configures nothing

    async def main() -> None:
        async with pair() as two:
            await two.connections()
            failures[0] = 2
            await asyncio.sleep(60)
        text = "connections reset or packets dropped by failed checks of the stack's own state: 2 more, 2 in all"
        assert said(records, "stack", logging.WARNING) == [text, text], "both stacks, once each"

    run_virtually(main())


def test_a_trap_is_an_error(records: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        stack = await create_stack(seed=1)
        await a_tap(stack)
        stack._driver.core._die(RuntimeError("unreachable executed"))
        stack._driver.wake()
        await asyncio.sleep(0.1)
        with pytest.raises(StackTrappedError):
            stack.stats()
        (record,) = [one for one in records.records if one.levelno == logging.ERROR]
        assert record.name == "tcpip_wasm.engine"
        assert "unreachable executed" in record.getMessage()
        assert record.exc_info is not None
        await stack.aclose()

    run_virtually(main())


def test_a_log_handler_that_raises_does_not_affect_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

        def handle(self, record: logging.LogRecord) -> Any:
            self.emit(record)

    handler = Broken(logging.DEBUG)
    logger = logging.getLogger("tcpip_wasm")
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    reports: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(str(context["exception"])))
        async with pair() as two:
            client, server = await two.connections()
            logger.addHandler(handler)
            try:
                await client.writable.get_writer().write(b"x")
                assert await server.readable.get_reader().read() == b"x"
                await asyncio.sleep(10)
                two.a.abort()
            finally:
                logger.removeHandler(handler)
            assert two.a.closed

    run_virtually(main())
    assert reports
    assert set(reports) == {"the disk is full"}


# --- Connections and names ------------------------------------------------------------------------------------------


def test_listeners_and_connections(records: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.start_server(lambda reader, writer: writer.close(), two.host, 80)
            reader, writer = await two.a.open_connection(two.host, 80)
            assert await reader.read() == b""
            writer.close()
            port = writer.get_extra_info("sockname")[1]
            server.close()
            with pytest.raises(ConnectionRefusedError):
                await two.a.open_connection(two.host, 80)
        texts = said(records, "sockets", logging.DEBUG)
        assert texts[:4] == [
            f"listening on {two.host} port 80",
            f"port 80: connection accepted from {two.own} port {port}",
            f"connected to {two.host} port 80",
            f"no longer listening on {two.host} port 80",
        ]
        assert texts[4].startswith(f"connect to {two.host} port 80 failed: ")
        assert len(texts) == 5

    run_virtually(main())


def test_servers_that_do_not_answer(records: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("dns")

    async def main() -> None:
        async with await create_stack(seed=1, name_server=("10.0.0.53", 53)) as stack:
            tap = await stack.create_tap_interface(ip="10.0.0.1/24")
            tap.attach(Sink())
            with pytest.raises(OSError, match="no name server gave an answer"):
                await stack.getaddrinfo("example.test", 80)
        texts = said(records, "names", logging.DEBUG)
        assert any("example.test" in text and "10.0.0.53 port 53" in text for text in texts)

    run_virtually(main())


# --- What it costs --------------------------------------------------------------------------------------------------


def test_nothing_is_printed_by_default() -> None:
    program = """
import asyncio, logging, sys
from tcpip_wasm import create_stack
if len(sys.argv) > 1:
    logging.basicConfig()

async def main():
    stack = await create_stack()
    stack._driver.core._die(RuntimeError("trap"))
    stack._driver.wake()
    while not stack.closed:
        await asyncio.sleep(0)

asyncio.run(main())
"""
    for options, printed in (([], False), (["print"], True)):
        done = subprocess.run(
            [sys.executable, "-c", program, *options], capture_output=True, text=True, timeout=100, check=True
        )
        assert done.stdout == ""
        assert ("tcpip_wasm.engine" in done.stderr) == printed, done.stderr
        assert bool(done.stderr) == printed


def test_logging_adds_no_code_to_a_poll_by_default() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            assert "turn" not in vars(stack._driver)
            logger = logging.getLogger("tcpip_wasm.interfaces")
            logger.setLevel(logging.INFO)
            try:
                async with await create_stack() as other:
                    assert "turn" in vars(other._driver)
                    logger.setLevel(logging.NOTSET)
                    await asyncio.sleep(2)
                    other._driver.wake()
                    await asyncio.sleep(0)
                    assert "turn" not in vars(other._driver), "it is taken out again"
            finally:
                logger.setLevel(logging.NOTSET)

    run_virtually(main())


def figures(level: int) -> tuple[Any, ...]:
    """Run a scenario with drops at a level, and return everything that a log record could have changed."""
    logger = logging.getLogger("tcpip_wasm")
    before = logger.level
    logger.setLevel(level)

    async def main() -> tuple[Any, ...]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with pair() as two:
            client, server = await two.connections()
            writer, reader = client.writable.get_writer(), server.readable.get_reader()
            for number in range(50):
                await writer.write(bytes([number]) * 1000)
                await reader.read()
                wire = two.a.interfaces[-1]
                assert not isinstance(wire, LoopbackInterface)
                wire.inject(MALFORMED)
                await asyncio.sleep(number * 0.7)
            await asyncio.sleep(3600)
            stacks = two.a, two.b
            assert [stack._driver.core.deadline for stack in stacks] == [inf, inf]
            assert [stack._driver._timer for stack in stacks] == [None, None]
            return loop.iterations, loop.jumps, loop.time(), *(repr(stack.stats()) for stack in stacks)

    try:
        return run_virtually(main())
    finally:
        logger.setLevel(before)


def test_logging_does_not_change_a_run() -> None:
    silent = figures(logging.CRITICAL)
    assert "malformed=50" in silent[3]
    assert figures(logging.WARNING) == silent
    assert figures(logging.DEBUG) == silent

"""Errors and their exceptions: the rows of the exception table that concern TCP."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest
import wasmtime

from tcpip_wasm import (
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimedOut,
    NetworkError,
    StackClosedError,
    StackTrappedError,
    TcpipError,
    create_stack,
)
from tcpip_wasm.engine.wasmtime_engine.calls import make_call
from tcpip_wasm.engine.wasmtime_engine.module import engine
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import Network, payload, two_hosts
from tests.kit.stacks import WAYS, Recorder, iterations, pair, read_all, recorders, run, send_all, until

ways = pytest.mark.parametrize("way", WAYS)


@ways
def test_no_listener(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            before = two.a.stats().core
            for attempt in (
                lambda: two.a.connect_tcp(two.host, 81),
                lambda: two.a.open_connection(two.host, 81),
                lambda: two.a.create_connection(Recorder, two.host, 81),
            ):
                with pytest.raises(ConnectionRefusedError) as caught:
                    await attempt()
                assert type(caught.value) is ConnectionRefused
                assert caught.value.errno == errno.ECONNREFUSED
                assert isinstance(caught.value, TcpipError)
            after = two.a.stats().core
            assert (after.handles, after.connections) == (before.handles, before.connections)

    run(main())


def test_error_names_the_peer() -> None:
    async def main() -> None:
        async with pair() as two:
            with pytest.raises(ConnectionRefused, match=r"10\.0\.0\.2.*81"):
                await two.a.connect_tcp(two.host, 81)

    run(main())


def test_no_route() -> None:
    async def main() -> None:
        async with pair("tap4") as two, await create_stack(initialize_loopback=False) as bare:
            for stack, host in ((two.a, "192.168.9.9"), (bare, "10.0.0.1"), (bare, "fd00::1"), (bare, "127.0.0.1")):
                with pytest.raises(NetworkError) as caught:
                    await stack.connect_tcp(host, 80)
                assert caught.value.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
                assert host in str(caught.value)

    run(main())


@pytest.mark.parametrize("way", ["tap4", "tap6", "tun4"])
def test_timeout_argument(way: str) -> None:
    async def main() -> None:
        async with pair(way, cable=False) as two:
            before = two.a.stats().core
            with pytest.raises(TimeoutError) as caught:
                await two.a.connect_tcp(two.host, 80, timeout=0.02)
            assert type(caught.value) is ConnectionTimedOut
            assert caught.value.errno == errno.ETIMEDOUT
            assert f"{two.host}:80" in str(caught.value)
            after = two.a.stats().core
            assert (after.handles, after.connections) == (before.handles, before.connections)

    run(main())


def test_invalid_timeouts() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            for timeout, error in (("1", TypeError), (True, TypeError), (float("nan"), ValueError)):
                with pytest.raises(error, match="timeout"):
                    await two.a.connect_tcp(two.host, 80, timeout=timeout)  # type: ignore[arg-type]

    run(main())


def test_asyncio_timeout_raises_its_own_error() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.02):
                    await two.a.connect_tcp(two.host, 80, timeout=10)
            assert not isinstance(caught.value, TcpipError)

    run(main())


def test_unanswered_connect_times_out() -> None:
    """TCP's own timeout."""

    async def main() -> None:
        async with pair("tun4", cable=False) as two:
            loop = asyncio.get_running_loop()
            start = loop.time()
            tasks = [asyncio.create_task(two.a.connect_tcp(two.host, port)) for port in (80, 81)]
            for task in tasks:
                with pytest.raises(TimeoutError) as caught:
                    await task
                assert type(caught.value) is ConnectionTimedOut
                assert caught.value.errno == errno.ETIMEDOUT
                assert "10.0.0.2" in str(caught.value)
            assert 126 < loop.time() - start < 128  # as Linux: six times more, after 1, 2, 4, ... seconds

    run_virtually(main())


@pytest.mark.parametrize("address", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("silent", ["ARP and ND", "TCP"])
def test_unanswered_in_virtual_time(address: int, silent: str) -> None:
    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        tcp = frame[12:14] == b"\x08\x00" or (frame[12:14] == b"\x86\xdd" and frame[20] == 6)
        return [] if silent == "ARP and ND" or tcp else [(0.0, frame)]

    network = two_hosts(rule=rule)
    client = network.hosts[0].connect(network.hosts[1], 80, address=address)
    start = network.now
    network.run(lambda: client.ended is not None)
    assert client.ended == errno.ETIMEDOUT
    # Neighbour resolution tries three times, for 5 (ARP) or 3 (ND) seconds in total, which TCP's timer may shorten.
    expected = 127 if silent == "TCP" else 14 if address == 0 else 10
    assert abs(network.now - start - expected) < 1.5
    client.close()
    network.settle()
    assert network.hosts[0].core.statistics().connections == 0


def test_retransmissions_time_out() -> None:
    cut = False
    network = two_hosts(rule=lambda number, frame: [] if cut else [(0.0, frame)])
    client, server = network.open()
    client.write(payload(10_000))
    network.run(lambda: len(server.received) == 10_000)
    cut = True
    client.write(b"into the void")
    network.run(lambda: client.ended is not None, seconds=3600)
    assert client.ended == errno.ETIMEDOUT
    assert server.ended is None
    assert server.received == payload(10_000)


def test_a_restarted_peer_resets() -> None:
    """A host that was restarted does not know the connection (RFC 9293, section 3.5.1)."""
    network = two_hosts()
    client, _ = network.open()
    again = Network(network.hosts[0], two_hosts(seed=9).hosts[1])
    again.now = network.now
    again.hosts[1].core.poll(network.now)
    client.write(b"are you still there?")
    again.run(lambda: client.ended is not None, seconds=300)
    assert client.ended == errno.ECONNRESET


# --- A closed stack -----------------------------------------------------------------------------------------------


def test_closed_stack_ends_pending_calls() -> None:
    async def main() -> None:
        async with pair() as two:
            listener = await two.a.listen_tcp(90)
            client, _ = await two.connections()
            stuck, stuck_peer = await two.connections(port=81)
            await two.b.create_server(Recorder, two.host, 82)
            reader, writer = await two.a.open_connection(two.host, 82)
            recorder, _ = await recorders(two, port=83)

            async def flood() -> None:
                with stuck.writable.get_writer() as out:
                    while True:
                        await out.write(payload(65536))

            assert two.cable is not None
            waiting = {
                "accept": asyncio.create_task(listener.accept()),
                "read": asyncio.create_task(client.readable.get_reader().read()),
                "write": asyncio.create_task(flood()),
                "stream read": asyncio.create_task(reader.readexactly(1)),
                "connect": asyncio.create_task(two.a.connect_tcp("10.0.0.77", 80)),
            }
            await iterations(300)
            assert not any(task.done() for task in waiting.values())
            await two.a.aclose()
            for name, task in waiting.items():
                with pytest.raises(StackClosedError) as caught:
                    await asyncio.wait_for(task, 1)
                assert isinstance(caught.value, ConnectionAbortedError), name
                assert isinstance(caught.value, OSError)
            assert isinstance(await recorder.lost, StackClosedError)
            await two.a.aclose()
            assert two.a.closed
            writer.close()
            with pytest.raises(StackClosedError):
                await writer.wait_closed()
            with pytest.raises(StackClosedError):
                await client.writable.get_writer().write(b"x")
            stuck_peer.abort()

    run(main())


def test_closed_stack_refuses_calls() -> None:
    async def main() -> None:
        stack = await create_stack()
        await stack.aclose()
        for call in (
            lambda: stack.connect_tcp("127.0.0.1", 80),
            lambda: stack.listen_tcp(80),
            lambda: stack.open_connection("127.0.0.1", 80),
            lambda: stack.start_server(lambda r, w: None, None, 80),
            lambda: stack.create_connection(Recorder, "127.0.0.1", 80),
            lambda: stack.create_server(Recorder, None, 80),
            lambda: stack.create_tap_interface(),
            lambda: stack.create_loopback_interface(),
        ):
            with pytest.raises(StackClosedError):
                await call()
        assert "closed" in repr(stack)

    run(main())


def test_calls_on_sockets_of_a_closed_stack() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            recorder, _ = await recorders(two, port=81)
            listener = await two.a.listen_tcp(90)
            asyncios = await two.a.create_server(Recorder, None, 91)
            await two.a.aclose()
            await client.close()
            client.abort()
            await listener.close()
            asyncios.close()
            await asyncios.wait_closed()
            with pytest.raises(StackClosedError):
                await listener.accept()
            for call in ("close", "abort", "pause_reading", "resume_reading", "write_eof"):
                getattr(recorder.transport, call)()
            recorder.transport.write(b"x")
            assert recorder.transport.get_write_buffer_size() == 0
            await until(lambda: recorder.lost.done())
            assert recorder.calls == ["made", "lost"]
            server.abort()

    run(main())


def test_closing_from_within_callbacks() -> None:
    """A protocol closes the stack that calls it."""

    async def main() -> None:
        async with pair() as two:
            closing: list[asyncio.Task[None]] = []

            class Closing(Recorder):
                def data_received(self, data: bytes) -> None:
                    super().data_received(data)
                    closing.append(asyncio.get_running_loop().create_task(two.b.aclose()))
                    two.b._driver.end(StackClosedError(errno.ECONNABORTED, "from within"))

            made: list[Closing] = []

            def accept() -> Closing:
                made.append(Closing())
                return made[-1]

            await two.b.create_server(accept, two.host, 80)
            _, client = await two.a.create_connection(Recorder, two.host, 80)
            client.transport.write(b"x")
            await until(lambda: bool(closing))
            await closing[0]
            assert isinstance(await made[0].lost, StackClosedError)
            client.transport.abort()
            await client.lost

    run(main())


def trapping_call() -> Callable[..., int]:
    """Return a call into WebAssembly that traps."""
    store = wasmtime.Store(engine())
    text = '(module (func (export "trap") (result i32) unreachable))'
    module = wasmtime.Module(engine(), bytes(wasmtime.wat2wasm(text)))
    function = wasmtime.Instance(store, module, []).exports(store)["trap"]
    assert isinstance(function, wasmtime.Func)
    call = make_call(store, function, ("", "i"))
    return lambda *_: call()


def test_trap_ends_one_stack_only() -> None:
    async def main() -> None:
        async with pair() as two, pair() as others:
            client, server = await two.connections()
            unharmed, peer = await others.connections()
            listener = await two.a.listen_tcp(90)
            waiting = [
                asyncio.create_task(client.readable.get_reader().read()),
                asyncio.create_task(listener.accept()),
                asyncio.create_task(two.a.connect_tcp("10.0.0.77", 80)),
            ]
            await iterations(20)
            two.a._driver.core._poll = trapping_call()
            two.a._driver.wake()
            with pytest.raises(StackTrappedError) as first:
                await waiting[0]
            for task in waiting[1:]:
                with pytest.raises(StackTrappedError) as caught:
                    await task
                assert caught.value is first.value
            for call in (lambda: two.a.connect_tcp(two.host, 80), lambda: two.a.create_tap_interface()):
                with pytest.raises(StackTrappedError):
                    await call()
            assert two.a.closed
            await send_all(unharmed, payload(100_000))
            assert await read_all(peer) == payload(100_000)
            server.abort()
            assert not two.b.closed

    run(main())


# --- Malformed arguments ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["", "10.0.0", "10.0.0.1/24", "fe80::1%nowhere", "1.2.3.4.5"])
def test_malformed_hosts(host: str) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises(ValueError, match="host: ") as caught:
                await stack.connect_tcp(host, 80)
            assert host in str(caught.value)

    run(main())


@pytest.mark.parametrize("port", [-1, 0, 65536, 10**6])
def test_ports_out_of_range(port: int) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises(ValueError, match=f"port: {port} "):
                await stack.connect_tcp("127.0.0.1", port)
            if port != 0:
                with pytest.raises(ValueError, match=f"port: {port} "):
                    await stack.listen_tcp(port)

    run(main())


def test_wrong_types() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            for host in (None, 5, b"127.0.0.1", ("127.0.0.1", 80)):
                with pytest.raises(TypeError, match="host must be"):
                    await stack.connect_tcp(host, 80)  # type: ignore[arg-type]
            for port in ("80", 80.0, None, True):
                with pytest.raises(TypeError, match="port must be"):
                    await stack.connect_tcp("127.0.0.1", port)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="seed"):
                await create_stack(seed="text")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="families"):
                await stack.create_connection(Recorder, "::1", 80, local_addr=("127.0.0.1", 0))
            with pytest.raises(TypeError, match="ssl"):
                await stack.open_connection("127.0.0.1", 80, ssl="yes")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="server_hostname"):
                await stack.open_connection("127.0.0.1", 80, server_hostname="localhost")

    run(main())


def test_out_of_memory_loses_nothing_accepted() -> None:
    """Data that does not fit is refused with ENOBUFS or waits; accepted data arrives."""

    async def main() -> None:
        async with await create_stack(memory_limit=5 << 20) as stack, await stack.listen_tcp(80) as listener:
            pairs = []
            for _ in range(8):
                client = await stack.connect_tcp("127.0.0.1", 80)
                pairs.append((client, await listener.accept()))
            sending = [
                asyncio.create_task(send_all(client, payload(1_500_000, i))) for i, (client, _) in enumerate(pairs)
            ]
            await iterations(300)
            assert stack.stats().core.memory <= 5 << 20
            with pytest.raises(NetworkError) as caught:
                for number in range(64):
                    await stack.create_tun_interface(ip=f"10.{number}.0.1/24")
            assert caught.value.errno == errno.ENOBUFS
            received = await asyncio.gather(*[read_all(server) for _, server in pairs])
            assert received == [payload(1_500_000, i) for i in range(8)]
            await asyncio.gather(*sending)

    run(main())


def test_a_writer_waits_for_memory_without_spinning() -> None:
    """A full heap leaves room in a connection's own queue, which must not make the writer retry at once."""

    async def main() -> None:
        async with await create_stack(memory_limit=5 << 20) as stack, await stack.listen_tcp(80) as listener:
            pairs = []
            for _ in range(14):
                client = await stack.connect_tcp("127.0.0.1", 80)
                pairs.append((client, await listener.accept()))
            data = [payload(400_000, number) for number in range(14)]
            sending = [asyncio.create_task(send_all(pairs[i][0], data[i])) for i in range(13)]
            for _ in range(300):  # without a reader
                await asyncio.sleep(0)
            sending.append(asyncio.create_task(send_all(pairs[13][0], data[13])))
            before = stack.stats().turns
            await asyncio.sleep(10)
            assert stack.stats().core.memory == 5 << 20
            assert stack.stats().core.memory_errors > 0
            assert not sending[-1].done()
            assert stack.stats().turns - before < 1000  # TCP's timer ticks forty times a second
            assert await asyncio.gather(*[read_all(server) for _, server in pairs]) == data
            await asyncio.gather(*sending)

    run_virtually(main())


def test_reset_while_connecting_is_a_refusal() -> None:
    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80, backlog=1) as listener:
            connection = await two.a.connect_tcp(two.host, 80)
            attempt = asyncio.create_task(two.a.connect_tcp(two.host, 80))
            await iterations(200)
            assert not attempt.done()
            await listener.close()
            with pytest.raises(ConnectionRefused):
                await attempt
            with pytest.raises(ConnectionReset):
                await read_all(connection)

    run_virtually(main())


def test_handshakes_beyond_the_backlog_are_reset_with_their_listener() -> None:
    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80, backlog=1) as listener:
            connections = await asyncio.gather(*[two.a.connect_tcp(two.host, 80) for _ in range(5)])
            await listener.close()
            for connection in connections:
                with pytest.raises(ConnectionReset):
                    await read_all(connection)
            assert two.b.stats().core.connections == 0

    run_virtually(main())


def test_a_cancelled_callback_stops_no_other_connection() -> None:
    class Cancelled(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise asyncio.CancelledError

    async def main() -> None:
        reports: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["exception"]))
        async with await create_stack() as stack:
            await stack.create_server(Cancelled, "127.0.0.1", 80)
            await stack.create_server(Recorder, "127.0.0.1", 81)
            await (await stack.connect_tcp("127.0.0.1", 80)).close()
            await (await stack.connect_tcp("127.0.0.1", 81)).close()
        assert [type(report) for report in reports] == [asyncio.CancelledError]

    asyncio.run(main())

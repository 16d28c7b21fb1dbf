"""Hosts: asyncio's calls use the stack of the host they run on, names are those of the network, and nothing leaks."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tcpip_wasm import HostsTable, NetworkStack, StackClosedError, connect, create_stack
from tcpip_wasm.simulation import Network, current_host, current_stack, run
from tests.kit.simulation_hosts import ask, serve_upper, star, two, upper

ROOT = Path(__file__).resolve().parents[2]


def test_calls_use_the_stack_of_their_host() -> None:
    """Three hosts listen on the same port at once, and each answers its own clients."""

    async def scenario(network: Network) -> None:
        hosts = star(network, 3)

        async def serve() -> None:
            me = current_host()
            assert me is not None
            assert current_stack() is me.stack

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert current_host() is me, "what a server starts runs on its host"
                await asyncio.sleep(1)
                line = await reader.readline()
                writer.write(me.name.encode() + b" " + line)
                writer.close()

            async with await asyncio.start_server(answer, port=80) as server:
                await server.serve_forever()

        for host in hosts:
            host.start(serve)

        async def client() -> list[bytes]:
            return await asyncio.gather(*[ask(host.name, 80) for host in hosts])

        for host in hosts:
            answers = await host.run(client(), name=f"client on {host.name}")
            assert answers == [f"{one.name} question\n".encode() for one in hosts]
        assert current_host() is None

    result = run(scenario)
    assert result.value is None
    assert not result.leaked


def test_a_function_and_a_coroutine_are_distinguished() -> None:
    async def program() -> None:
        raise AssertionError("it is not run")

    async def scenario(network: Network) -> None:
        host = network.host("a")
        with pytest.raises(TypeError, match=r"coroutine must be a coroutine, .* not function"):
            await host.run(program)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"service must be a coroutine function .*, not coroutine"):
            host.start(program())  # type: ignore[arg-type]
        host.crash()
        host.restart()

    assert not run(scenario).leaked


def test_all_network_methods_of_the_loop() -> None:
    async def scenario(network: Network) -> None:
        a, b = two(network)

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: Shout(), "b", 1)
            transport, _ = await loop.create_datagram_endpoint(Shout, local_addr=("b", 2))
            try:
                await server.serve_forever()
            finally:
                transport.close()

        class Shout(asyncio.Protocol, asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert current_host() is b
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                assert isinstance(self.transport, asyncio.WriteTransport)
                assert current_host() is b
                self.transport.write(data.upper())

            def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
                assert isinstance(self.transport, asyncio.DatagramTransport)
                assert current_host() is b
                self.transport.sendto(data.upper(), address)

        class Hear(asyncio.DatagramProtocol):
            def __init__(self) -> None:
                self.heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

            def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
                assert current_host() is a
                self.heard.set_result(data)

        async def client() -> None:
            loop = asyncio.get_running_loop()
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("b", 1))
                await loop.sock_sendall(sock, b"by a socket")
                assert await loop.sock_recv(sock, 100) == b"BY A SOCKET"
            transport, hear = await loop.create_datagram_endpoint(Hear, remote_addr=("b", 2))
            transport.sendto(b"datagram")
            assert await hear.heard == b"DATAGRAM"
            transport.close()
            infos = await loop.getaddrinfo("b", 80, type=socket.SOCK_STREAM)
            assert [info[4][0] for info in infos] == ["fd00::2", "10.0.0.2"]
            assert await loop.getnameinfo(("10.0.0.2", 80)) == ("b", "http")
            assert (await loop.getnameinfo(("10.0.0.77", 80)))[0] == "10.0.0.77"

        b.start(serve)
        await asyncio.sleep(0.1)
        await a.run(client())

    assert not run(scenario).leaked


def test_addresses_are_given_or_taken_from_pools() -> None:
    async def scenario(network: Network) -> None:
        a = network.host("a")
        b = network.host("b", "192.168.7.1/24")
        assert [str(one) for one in a.addresses] == ["10.0.0.1/8", "fd00::1/64"]
        assert (a.address, b.address) == ("10.0.0.1", "192.168.7.1")
        assert a.adapters[0].mac == "02:00:00:00:01:00"
        card = b.interface("fd07::1/64", mtu=1400)
        assert [str(one) for one in b.addresses] == ["192.168.7.1/24", "fd07::1/64"]
        assert card.interface is not None
        assert card.interface.mtu == 1400
        for name, addresses, message in (
            ("a", (), "name: 'a' is taken"),
            ("c", ("192.168.7.1/24",), "192.168.7.1 is an address of b"),
            ("c", ("fd07::1/64",), "fd07::1 is an address of b"),
            ("c", ("10.0.0.1/8x",), "ip: "),
            ("a b", (), "neither a name"),
        ):
            with pytest.raises(ValueError, match=message):
                network.host(name, *addresses)
        with pytest.raises(TypeError, match="name must be text, not int"):
            network.host(7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'c' is no host of this network"):
            network.link("a", "c")
        with pytest.raises(TypeError, match="not int"):
            network.link("a", 7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="delay"):
            network.link("a", "b", delay=-1)
        link = network.link("a", "b")
        assert network.links == {"a-b": link}
        with pytest.raises(OSError, match="a has a link; another link needs another card") as caught:
            network.link("a", card)
        assert caught.value.errno == errno.EBUSY
        link.close()
        again = network.link("a", "b")
        assert again.name == "a-b-2"

    run(scenario)


def test_names() -> None:
    """Short names are looked up in the host's own domain; unknown ones fail at once, without a query."""

    async def scenario(network: Network) -> None:
        web = network.host("web.lab", "10.0.0.1/24")
        network.host("db.lab", "10.0.0.2/24", "fd00::2/64")
        other = network.host("other.example", "10.0.0.3/24")
        network.names["alias"] = "10.0.0.2"
        web.hosts["private"] = "10.0.0.9"
        loop = network.loop

        async def addresses(name: str, family: int = 0) -> list[str]:
            infos = await loop.getaddrinfo(name, 1, family=family, type=socket.SOCK_STREAM)
            return sorted(str(info[4][0]) for info in infos)

        async def canonical(name: str) -> str:
            return (await loop.getaddrinfo(name, 1, flags=socket.AI_CANONNAME))[0][3]

        assert await web.run(addresses("db")) == ["10.0.0.2", "fd00::2"]
        assert await web.run(addresses("DB.lab.")) == ["10.0.0.2", "fd00::2"]
        assert await web.run(addresses("db", socket.AF_INET6)) == ["fd00::2"]
        assert await web.run(canonical("db")) == "db.lab"
        assert await web.run(addresses("alias")) == ["10.0.0.2"]
        assert await web.run(addresses("private")) == ["10.0.0.9"]
        assert await web.run(addresses("localhost")) == ["127.0.0.1", "::1"]
        assert sorted(web.hosts) == ["alias", "db.lab", "other.example", "private", "web.lab"]
        assert len(web.hosts) == 5
        assert web.hosts.names_of("10.0.0.2") == ("db.lab", "alias")
        for name in ("db", "private", "nobody", "db."):
            with pytest.raises(socket.gaierror) as caught:
                await other.run(addresses(name))
            assert caught.value.errno == socket.EAI_NONAME
        with pytest.raises(socket.gaierror):
            await web.run(addresses("db", socket.AF_INET + 77))
        assert loop.time() == 0.0
        assert not network.trace().observations

    run(scenario)


def test_a_name_server_of_the_network_is_asked() -> None:
    """Unknown names fail at once only without a name server."""
    pytest.importorskip("dns", reason="dnspython is not installed")

    async def scenario(network: Network) -> float:
        a, b = two(network)
        a.stack.name_servers = ["10.0.0.2"]
        with pytest.raises(socket.gaierror):
            await a.run(ask("unknown.example"))
        assert any(packet.udp is not None for packet in network.trace())
        assert b.up
        return network.loop.time()

    assert run(scenario).value > 0


def test_outside_of_all_hosts_there_is_no_network() -> None:
    async def scenario(network: Network) -> None:
        two(network)
        loop = network.loop
        for attempt in (
            asyncio.open_connection("b", 7),
            asyncio.start_server(upper, port=7),
            loop.getaddrinfo("b", 1),
            loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("10.0.0.2", 1)),
        ):
            with pytest.raises(OSError, match="no host: run this on one") as caught:
                await attempt
            assert caught.value.errno == errno.ENETDOWN

    run(scenario)


def test_routers_and_stacks_of_the_scenario() -> None:
    async def scenario(network: Network) -> None:
        a = network.host("a", "10.1.0.1/24")
        b = network.host("b", "10.2.0.1/24")
        router = network.host("router", "10.1.0.254/24")
        network.link(a, router)
        network.link(router.interface("10.2.0.254/24"), b)
        router.stack.forwarding = True
        a.stack.add_route("0.0.0.0/0", via="10.1.0.254")
        b.stack.add_route("0.0.0.0/0", via="10.2.0.254")
        b.start(serve_upper)
        assert await a.run(ask("b")) == b"QUESTION\n"
        await asyncio.sleep(1)  # or the server gets a reset
        router.restart()
        a.restart()
        assert router.stack.forwarding
        assert await a.run(ask("b")) == b"QUESTION\n"

    run(scenario)


def test_connecting_from_a_card_without_a_link_fails_at_once() -> None:
    async def scenario(network: Network) -> None:
        a = network.host("a", "10.0.0.1/24")
        b = network.host("b", "10.0.0.2/24")
        a.start(serve_upper)
        b.start(serve_upper)

        async def fails() -> float:
            began = network.loop.time()
            with pytest.raises(OSError, match=r"connect to 10\.0\.0\.2:7: a\.tap0 has no link") as caught:
                await a.run(ask("b"))
            assert caught.value.errno == errno.ENETUNREACH
            return network.loop.time() - began

        assert await fails() == 0
        assert await a.run(ask("a")) == b"QUESTION\n", "it reaches itself"
        link = network.link(a, b)
        assert await a.run(ask("b")) == b"QUESTION\n"
        a.restart()
        assert await a.run(ask("b")) == b"QUESTION\n"
        link.down()
        with pytest.raises(TimeoutError):  # with a link that is down connecting times out, as with a cable that is cut
            await a.run(ask("b"))
        link.close()
        assert await fails() == 0
        a.restart()
        assert await fails() == 0

        # Another card connects to another network, and by a gateway to that of the first.
        network.link(a.interface("10.1.0.1/24"), network.host("c", "10.1.0.2/24"))
        network.hosts["c"].start(serve_upper)
        assert await a.run(ask("c")) == b"QUESTION\n"
        a.stack.add_route("10.0.0.0/30", via="10.1.0.2")
        with pytest.raises(TimeoutError):  # c does not forward
            await a.run(ask("b"))

    assert not run(scenario).leaked


DENYING = """
import asyncio, socket, sys
from tcpip_wasm.simulation import run
from tests.kit.simulation_hosts import ask, serve_upper, two
from tests.kit.machine_network import conclude, deny

async def scenario(network):
    sys.addaudithook(deny)
    a, b = two(network)
    b.start(serve_upper)
    loop = network.loop

    async def client():
        assert await ask("b") == b"QUESTION\\n"
        attempts = [
            asyncio.open_connection("127.0.0.1", 22),
            asyncio.open_connection("localhost", 22),
            asyncio.open_connection("example.org", 80),
            asyncio.open_connection("192.0.2.1", 80),
            loop.getaddrinfo("example.org", 80),
            loop.getnameinfo(("192.0.2.1", 80), socket.NI_NAMEREQD),
            loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("example.org", 53)),
            loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("192.0.2.1", 53)),
        ]
        for attempt in attempts:
            try:
                await asyncio.wait_for(attempt, 3)
            except (OSError, TimeoutError):
                continue
            raise AssertionError("this reached the machine's network")

    await a.run(client())
    for outside in (asyncio.open_connection("127.0.0.1", 22), loop.getaddrinfo("example.org", 80)):
        try:
            await outside
        except OSError:
            continue
        raise AssertionError("this reached the machine's network")

run(scenario)
conclude()
"""


def test_nothing_reaches_the_machines_network() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DENYING], capture_output=True, text=True, timeout=250, cwd=ROOT, check=False
    )
    assert done.stdout.split("\n")[0] == "no call has used the machine's network", done.stderr


def test_stacks_outside_of_hosts_use_virtual_time() -> None:
    async def scenario(network: Network) -> bytes:
        async def make(address: str) -> NetworkStack:
            return await create_stack(seed=address.encode())

        async with await make("10.0.0.1") as one, await make("10.0.0.2") as other:
            connect(
                await one.create_tap_interface(ip="10.0.0.1/24"), await other.create_tap_interface(ip="10.0.0.2/24")
            )
            server = await other.start_server(upper, port=7)
            reader, writer = await one.open_connection("10.0.0.2", 7)
            writer.write(b"hello\n")
            answer = await reader.readline()
            writer.close()
            server.close()
            await server.wait_closed()
            return answer

    result = run(scenario)
    assert result.value == b"HELLO\n"
    assert not result.leaked


def test_an_aborted_stack_sends_nothing() -> None:
    async def scenario(network: Network) -> None:
        a, b = two(network)
        b.start(serve_upper)

        async def client() -> None:
            reader, writer = await asyncio.open_connection("b", 7)
            reading = asyncio.create_task(reader.read(1))
            await asyncio.sleep(1)
            sent = len(network.trace().observations)
            a.stack.abort("enough of it")
            a.stack.abort()
            with pytest.raises(StackClosedError, match="enough of it"):
                await reading
            assert a.stack.closed
            await asyncio.sleep(100)
            assert len(network.trace().observations) == sent
            writer.close()

        await a.run(client())

    run(scenario)


def test_hosts_tables_are_assigned_as_a_whole() -> None:
    async def scenario(network: Network) -> None:
        async with await create_stack(seed=1) as stack:
            table = HostsTable()
            table["db"] = "10.0.0.5"
            stack.hosts = table
            assert stack.hosts is table
            assert (await stack.getaddrinfo("db", 1))[0][4] == ("10.0.0.5", 1)
            with pytest.raises(TypeError, match="hosts must be a HostsTable, not dict"):
                stack.hosts = {"db": "10.0.0.6"}  # type: ignore[assignment]

    run(scenario)

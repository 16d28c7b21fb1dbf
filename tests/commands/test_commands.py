"""The commands that join a stack to something outside, as processes; a stack of this process is the guest.

That of a TAP device is in tests/interop/test_command_line.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Any, cast

import pytest

from tcpip_wasm import create_stack
from tcpip_wasm.capture import Packet, read_capture
from tcpip_wasm.capture.trace import observation_of
from tcpip_wasm.cli import main
from tcpip_wasm.commands.machine_names import machine_resolver, machine_servers
from tcpip_wasm.commands.outside import parse_outside
from tcpip_wasm.commands.serve import pool_of, qemu_options
from tcpip_wasm.links import connect_qemu, listen_qemu
from tests.kit.core_network import payload

BOUND = 60.0
COMMAND = [sys.executable, "-m", "tcpip_wasm"]
FILE = payload(15, 300_000)


@contextmanager
def running(*arguments: str, ready: str = "Ctrl-C ends it") -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A command that runs, and the lines that it has printed; at the end it has ended."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not lines or ready not in lines[-1]:
                line = process.stdout.readline()
                assert line, f"it has ended: {lines}"
                lines.append(line.rstrip("\n"))
            yield process, lines
        finally:
            process.kill()


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Interrupt a command, and return its exit status and what it prints."""
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=BOUND)
    return process.returncode, text


def failed(*arguments: str) -> tuple[int, str]:
    """Run a command, and return its exit status and what it prints."""
    ran = subprocess.run(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BOUND, check=False
    )
    return ran.returncode, ran.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file."""
    made = tmp_path / "folder"
    made.mkdir()
    (made / "file.bin").write_bytes(FILE)
    return made


@dataclass
class Guest:
    """What a guest found.

    Attributes:
        addresses: its own.
        named: what the server's name led to.
        hashes: of the file, as it was fetched from each of these.
        servers: its name servers.
        routers: its default routers.
    """

    addresses: list[str]
    named: list[str]
    hashes: list[str]
    servers: list[str]
    routers: list[str]


async def fetched(address: str, *, port: int = 80, ipv6: bool = True) -> Guest:
    """Be a guest that connects, configures itself, and fetches the file."""
    async with asyncio.timeout(BOUND), await create_stack() as guest:
        tap = await guest.create_tap_interface()
        link = await connect_qemu(tap, address)
        await tap.configure(dhcp=True, slaac=ipv6)
        found = await guest.getaddrinfo("files.internal", port, type=socket.SOCK_STREAM)
        named, hashes = [str(info[4][0]) for info in found], []
        for each in named:
            reader, writer = await guest.open_connection(each, port)
            writer.write(b"GET /file.bin HTTP/1.1\r\nhost: files.internal\r\nconnection: close\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            hashes.append(hashlib.sha256(await reader.read(-1)).hexdigest())
            writer.close()
        lists = [tap.addresses, named, hashes, tap.name_servers, tap.routers]
        link.close()
        return Guest(*(list(map(str, each)) for each in lists))


def test_guests_get_a_lease_a_name_and_the_file(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")

    async def guests() -> list[Guest]:
        return await asyncio.gather(*(fetched(f"unix:{tmp_path / 'vm.sock'}", port=8080) for _ in range(2)))

    address = f"unix:{tmp_path / 'vm.sock'}"
    options = ("--network", "10.7.0.1/28", "--network6", "fd07::1/64", "--port", "8080")
    with running("serve", str(folder), "--qemu", address, *options) as (server, lines):
        assert any(f"addr.path={tmp_path / 'vm.sock'}" in line for line in lines)
        answers = asyncio.run(guests())
        assert any("http://10.7.0.1:8080/, http://[fd07::1]:8080/, http://files.internal:8080/" in x for x in lines)
        assert {one.addresses[0] for one in answers} == {"10.7.0.2/28", "10.7.0.3/28"}
        assert len({one.addresses[1] for one in answers}) == 2
        for one in answers:
            assert IPv6Interface(one.addresses[1]).network == IPv6Network("fd07::/64")
            assert one.named == ["fd07::1", "10.7.0.1"]
            assert one.hashes == [hashlib.sha256(FILE).hexdigest()] * 2
            assert one.servers == ["10.7.0.1", "fd07::1"]
            assert one.routers == [], "the network leads nowhere else"
        assert interrupted(server) == (0, "")
    assert not (tmp_path / "vm.sock").exists()


def test_a_network_without_ipv6(tmp_path: Path, folder: Path) -> None:
    """Guests get no advertisement, and the name has one address."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    address = f"unix:{tmp_path / 'vm.sock'}"
    with running("serve", str(folder), "--qemu", address, "--network6", "none") as (server, lines):
        assert "[" not in lines[0]
        guest = asyncio.run(fetched(address, ipv6=False))
        assert (guest.addresses, guest.named) == (["10.0.0.2/24"], ["10.0.0.1"])
        assert guest.hashes == [hashlib.sha256(FILE).hexdigest()]
        assert interrupted(server) == (0, "")


def test_ping_by_a_lease_and_a_name(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    address = f"unix:{tmp_path / 'vm.sock'}"
    with running("serve", str(folder), "--qemu", address):
        link = ("--link", f"qemu:{address}", "-i", "0.01")
        status, text = failed("ping", "files.internal", *link, "--ip", "dhcp", "-c", "3")
        assert status == 0
        assert "address 10.0.0.2/24" in text
        assert "10.0.0.1: 3 sent, 3 received, 0 % lost" in text
        status, text = failed("ping", "10.0.0.77", *link, "--ip", "10.0.0.9/24", "-c", "1", "--timeout", "0.05")
        assert status == 1
        assert "no reply within 0.05 s" in text
        assert "1 sent, 0 received, 100 % lost" in text
        status, text = failed("ping", "10.9.0.1", *link, "--ip", "10.0.0.9/24", "-c", "1")
        assert (status, text.splitlines()[-1]) == (
            1,
            "tcpip-wasm: Network is unreachable: no route, tap0 has 10.0.0.9/24",
        )


@pytest.mark.parametrize("answers", [True, False])
def test_an_interrupted_ping_prints_what_it_counted(tmp_path: Path, answers: bool) -> None:
    """The exit status says whether a reply came."""
    address = f"unix:{tmp_path / 'vm.sock'}"

    async def peer() -> tuple[int, str]:
        async with asyncio.timeout(BOUND), await create_stack() as stack:
            tap = await stack.create_tap_interface(ip="10.0.0.1/24" if answers else "10.0.0.2/24")
            async with await listen_qemu(address, lambda: tap):
                return await asyncio.to_thread(pinged)

    def pinged() -> tuple[int, str]:
        arguments = ("ping", "10.0.0.1", "--link", f"qemu:{address}", "--ip", "10.0.0.9/24", "--timeout", "0.05")
        with running(*arguments, ready="request 1") as (process, lines):
            assert ("56 bytes from 10.0.0.1" in lines[-1]) == answers
            return interrupted(process)

    status, text = asyncio.run(peer())
    assert status == (0 if answers else 1)
    assert f" {1 if answers else 0} received" in text


def test_a_capture_has_the_frames_of_the_link(tmp_path: Path) -> None:
    address, file = f"unix:{tmp_path / 'vm.sock'}", tmp_path / "link.pcapng"

    async def peer() -> tuple[int, str]:
        async with asyncio.timeout(BOUND), await create_stack() as stack:
            tap = await stack.create_tap_interface(ip="10.0.0.1/24")
            async with await listen_qemu(address, lambda: tap):
                arguments = ("capture", str(file), "--link", f"qemu:{address}", "--ip", "10.0.0.9/24")
                with running(*arguments) as (process, _):
                    async with await stack.create_ping_session("10.0.0.9") as session:
                        assert (await session.ping(b"captured", timeout=BOUND)).payload == b"captured"
                    return await asyncio.to_thread(interrupted, process)

    status, text = asyncio.run(peer())
    frames = list(read_capture(file))
    assert (status, text) == (0, f"{file}: {len(frames)} frames\n")
    echoing = [Packet(observation_of(one)) for one in frames if b"captured" in one.frame]
    echoes = [(one.source, one.destination) for one in echoing if one.icmp is not None]
    assert echoes == [("10.0.0.1", "10.0.0.9"), ("10.0.0.9", "10.0.0.1")]


def test_a_capture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    address = f"unix:{tmp_path / 'vm.sock'}"

    async def peer() -> tuple[int, str]:
        async with asyncio.timeout(BOUND), await create_stack() as stack:
            tap = await stack.create_tap_interface(ip="10.0.0.1/24")
            async with await listen_qemu(address, lambda: tap):
                return await asyncio.to_thread(
                    failed, "capture", "/dev/full", "--link", f"qemu:{address}", "--ip", "10.0.0.9/24"
                )

    status, text = asyncio.run(peer())
    assert status == 1
    assert "Traceback" not in text
    assert text.splitlines()[-1] == "tcpip-wasm: No space left on device"


def test_guests_of_a_relay_reach_each_other(tmp_path: Path) -> None:
    """And a link that ends is an error of the command at its other end."""
    pytest.importorskip("websockets")
    with running("relay", "--port", "0", "--ip", "10.0.0.1/24") as (server, lines):
        url = lines[-1].split()[3].rstrip(";")
        assert url.startswith("ws://127.0.0.1:")
        status, text = failed("ping", "10.0.0.1", "--link", url, "--ip", "10.0.0.9/24", "-c", "1")
        assert (status, "1 received" in text) == (0, True)
        with running("capture", str(tmp_path / "relay.pcapng"), "--link", url) as (captures, _):
            assert interrupted(server) == (0, "")
            text, _ = captures.communicate(timeout=BOUND)
            assert captures.returncode == 1
            assert text.splitlines()[-1].startswith(f"tcpip-wasm: {url}: the other side has closed the link")
    status, text = failed("ping", "10.0.0.1", "--link", url, "--ip", "10.0.0.9/24", "-c", "1")
    assert (status, text.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("serve", "."), "--qemu or --link is needed"),
        (("serve", ".", "--qemu", "/run/vm.sock"), "unix:PATH or tcp:HOST:PORT is needed, not '/run/vm.sock'"),
        (("serve", ".", "--qemu", "unix:x", "--network", "10.0.0.1/31"), "a prefix of 30 bits at most is needed"),
        (("serve", ".", "--qemu", "unix:x", "--network", "10.0.0.0/24"), "no host may have this address"),
        (("serve", ".", "--qemu", "unix:x", "--network6", "fd00::1/48"), "a prefix of 64 bits is needed"),
        (("serve", ".", "--qemu", "unix:x", "--network6", "fe80::1/64"), "guests make no addresses of this network"),
        (("serve", ".", "--qemu", "unix:x", "--network6", "fd00::/64"), "fd00::/64: no host may have this address"),
        (("serve", ".", "--qemu", "unix:x", "--network6", "10.0.0.1/24"), "10.0.0.1"),
        (("serve", ".", "--qemu", "unix:x", "--name-server", "dns.example"), "does not appear to be an IPv4"),
        (("serve", ".", "--qemu", "unix:x", "--network", "127.0.0.1/8"), "127.0.0.1/8: no network of guests"),
        (("serve", ".", "--qemu", "unix:x", "--network", "0.0.0.1/24"), "0.0.0.1/24: no network of guests"),
        (("serve", ".", "--qemu", "unix:x", "--network", "224.0.0.1/24"), "224.0.0.1/24: no network of guests"),
        (("serve", ".", "--qemu", "unix:x", "--network", "240.0.0.1/24"), "240.0.0.1/24: no network of guests"),
        (("serve", ".", "--qemu", "unix:x", "--network6", "::5/64"), "::5/64: guests make no addresses of this"),
        (("serve", ".", "--qemu", "unix:x", "--network6", "::ffff:10.0.0.1/64"), "::ffff:10.0.0.1/64: guests make no"),
        (("serve", ".", "--qemu", "unix:x", "--network6", "fd00::1%x/64"), "fd00::1%x/64: guests make no addresses"),
        (("serve", ".", "--qemu", "unix:x", "--network6", "NONE"), "'NONE'"),
        (("serve", ".", "--qemu", "unix:x", "--name-server", "0.0.0.0"), "0.0.0.0: no name server has this address"),
        (("serve", ".", "--qemu", "unix:x", "--name-server", "::"), "::: no name server has this address"),
        (("serve", ".", "--qemu", "unix:x", "--name-server", "255.255.255.255"), "255.255.255.255: no name server"),
        (("serve", ".", "--qemu", "unix:x", "--name-server", "ff02::fb"), "ff02::fb: no name server has this address"),
        (("serve", ".", "--qemu", "unix:x", "--name-server", "fe80::1"), "fe80::1: its interface is needed"),
        (("serve", ".", "--qemu", "unix:x", "--name", ""), "argument --name: ''"),
        (("serve", ".", "--qemu", "unix:x", "--name", "a b"), "argument --name: 'a b'"),
        (("serve", ".", "--qemu", "unix:x", "--name", ".."), "argument --name: '..'"),
        (("serve", ".", "--qemu", "unix:x", "--name", "*.internal"), "argument --name: '*.internal'"),
        (("serve", ".", "--qemu", "unix:x", "--name", "10.0.0.1"), "argument --name: '10.0.0.1'"),
        (("serve", ".", "--qemu", "unix:x", "--port", "65536"), "a whole number of 0 to 65535 is needed"),
        (("ping", "10.0.0.1", "--link", "eth0", "--ip", "10.0.0.9/24"), "tap:NAME, qemu:unix:PATH"),
        (("ping", "10.0.0.1", "--link", "tap:x", "--ip", "10.0.0.999/24"), "does not appear to be an IPv4"),
        (("ping", "10.0.0.1", "--link", "tap:x", "--ip", "dhcp", "-c", "0"), "a whole number of 1 to"),
        (("ping", "10.0.0.1", "--link", "tap:x", "--ip", "dhcp", "--timeout", "nan"), "seconds of more than 0"),
        (("capture", "x.pcapng"), "--link"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err.splitlines()[-1]


def test_errors_are_one_line_that_says_where(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = f"qemu:unix:{tmp_path / 'absent.sock'}"
    assert main(["ping", "10.0.0.1", "--link", absent, "--ip", "10.0.0.9/24"]) == 1
    assert capsys.readouterr().err == f"tcpip-wasm: {absent}: No such file or directory\n"
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    (tmp_path / "taken").write_text("a file")
    assert main(["serve", str(folder), "--qemu", f"unix:{tmp_path / 'taken'}"]) == 1
    assert capsys.readouterr().err == f"tcpip-wasm: unix:{tmp_path / 'taken'}: Address already in use\n"
    assert main(["serve", str(tmp_path / "taken"), "--qemu", f"unix:{tmp_path / 'vm.sock'}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "vm.sock").exists()


@pytest.mark.parametrize(
    ("missing", "extra", "arguments"),
    [
        ("uvicorn", "http", ("serve", ".", "--qemu", "unix:never.sock")),
        ("dns", "dns", ("serve", ".", "--qemu", "unix:never.sock")),
        ("websockets", "websocket", ("relay", "--port", "0")),
        ("websockets", "websocket", ("capture", "never.pcapng", "--link", "ws://127.0.0.1:1/")),
    ],
)
def test_a_missing_library_is_named_with_its_command(
    tmp_path: Path, missing: str, extra: str, arguments: tuple[str, ...]
) -> None:
    """The library is hidden from a process of its own."""
    code = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name={missing!r})

sys.meta_path.insert(0, Hidden())
from tcpip_wasm.cli import main
sys.exit(main({arguments!r}))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("tcpip-wasm: ")
    assert "pip install 'tcpip" in ran.stderr
    assert f"[{extra}]'" in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["serve", "ping", "capture", "relay"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert re.search(rf"^examples?:\n  tcpip-wasm {command} ", text, re.MULTILINE)


def test_the_name_servers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# nameserver 192.0.2.9\nsearch lab.internal\nnameserver\n  nameserver fe80::1%eth0\nnameserver\t10.0.0.2 x\n"
        + "nameserver 10.0.0.3\n" * 3
    )
    assert machine_servers(file) == ["fe80::1%eth0", "10.0.0.2", "10.0.0.3"]
    # As in the C library: what is no address is left out, and one of zeros is this machine.
    file.write_text("nameserver dns.example\nnameserver 10.0.0.999\nnameserver 0.0.0.0\nnameserver ::\n")
    assert machine_servers(file) == ["127.0.0.1", "::1"]
    file.write_bytes(b"search \xff\nnameserver \xff\n")
    with pytest.raises(OSError, match="no name server is in it; --name-server names one"):
        machine_servers(file)


def test_the_machines_resolver_asks_a_server_of_the_machine() -> None:
    """By UDP, and by TCP what does not fit; the server is a program of this process on loopback."""
    dns = pytest.importorskip("dns.message")
    rrset = pytest.importorskip("dns.rrset")
    texts = [f'"{number} {"x" * 200}"' for number in range(20)]

    def answer(query: bytes, most: int) -> bytes:
        asked = dns.from_wire(query)
        made = dns.make_response(asked)
        (question,) = asked.question
        if question.rdtype == 16:
            made.answer.append(rrset.from_text(question.name, 60, "IN", "TXT", *texts))
        else:
            made.answer.append(rrset.from_text(question.name, 60, "IN", "A", "192.0.2.7"))
        packed = made.to_wire(max_size=65535)
        if len(packed) > most:
            made.answer.clear()
            made.flags |= 0x0200
            packed = made.to_wire()
        return bytes(packed)

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(answer(data, 512), addr)

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        made = answer(await reader.readexactly(length), 65535)
        writer.write(len(made).to_bytes(2) + made)
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(stream, "127.0.0.1", 0)
        where = server.sockets[0].getsockname()
        transport, _ = await loop.create_datagram_endpoint(Server, local_addr=where)
        async with server, asyncio.timeout(BOUND):
            resolver = machine_resolver([where])
            found = await resolver.addresses("www.example.", family=int(socket.AF_INET))
            assert list(map(str, found.addresses)) == ["192.0.2.7"]
            response = await resolver.forward((b"long", b"example"), 16)
            assert {str(each) for each in dns.from_wire(response).answer[0]} == set(texts)
        transport.close()
        await asyncio.sleep(0)  # the socket is closed

    asyncio.run(main())


def test_forged_answers_do_not_reach_the_machines_resolver() -> None:
    """From another port, with another number, to another question, or no messages: the true one comes last."""
    dns = pytest.importorskip("dns.message")
    rrset = pytest.importorskip("dns.rrset")

    def answer(query: Any, address: str) -> Any:
        made = dns.make_response(query)
        made.answer.append(rrset.from_text(query.question[0].name, 60, "IN", "A", address))
        return made

    class Server(asyncio.DatagramProtocol):
        asked = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.asked += 1
            query = dns.from_wire(data)
            forged = answer(query, "192.0.2.66")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
                elsewhere.bind(("127.0.0.1", 0))
                for _ in range(50):
                    elsewhere.sendto(forged.to_wire(), addr)
            wrong = [b"", bytes(11), bytes(512), data, forged.to_wire()[:-1], forged.to_wire()[:20]]
            for number in range(1, 50):
                forged.id = (query.id + number) % 65536
                wrong.append(forged.to_wire())
            other = answer(dns.make_query("other.example", "A", id=query.id), "192.0.2.66")
            for each in [*wrong, other.to_wire(), answer(query, "192.0.2.7").to_wire()]:
                self.transport.sendto(each, addr)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
        async with asyncio.timeout(BOUND):
            resolver = machine_resolver([transport.get_extra_info("sockname")])
            response = dns.from_wire(await resolver.forward((b"www", b"example"), 1))
        assert [str(one) for each in response.answer for one in each] == ["192.0.2.7"]
        assert server.asked == 1
        transport.close()
        await asyncio.sleep(0)  # the socket is closed

    asyncio.run(main())


def test_links_are_imported_by_commands_that_need_them() -> None:
    code = (
        "import sys; from tcpip_wasm.cli import main; main([]); "
        "sys.exit([name for name in sys.modules if name.startswith(('tcpip_wasm.links', 'tcpip_wasm.services'))] != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=BOUND, check=False).returncode == 0


def test_the_texts_of_links_and_qemu() -> None:
    assert parse_outside("tap:tap0").name == "tap0"
    assert parse_outside("qemu:tcp:[::1]:4444").name == "tcp:[::1]:4444"
    assert parse_outside("wss://relay.example/net").name == "wss://relay.example/net"
    assert qemu_options("unix:/run/a,b").endswith("addr.type=unix,addr.path=/run/a,,b")
    assert qemu_options("tcp:[::1]:4444").endswith("addr.type=inet,addr.host=::1,addr.port=4444")
    assert [str(end) for end in pool_of(IPv4Interface("10.0.0.1/30"))] == ["10.0.0.1", "10.0.0.2"]
    assert [str(end) for end in pool_of(IPv4Interface("10.0.0.1/8"))] == ["10.0.0.1", "10.0.16.0"]

"""The examples: each runs as a program, warnings are errors, its output is checked."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.test_replicated_store import SEED

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SKIPPED = 77
"""Exit status of an example that cannot run on this machine, after a line with the reason."""

SECONDS = 250.0


def run(name: str, *arguments: str) -> list[str]:
    """Run an example, and return the lines of its output."""
    return run_program(str(EXAMPLES / name), *arguments)


def run_program(*arguments: str) -> list[str]:
    """Run Python with these arguments, and return the lines of its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=EXAMPLES.parent,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},  # this checkout, whatever else is installed
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode == SKIPPED and os.environ.get("TCPIP_WASM_REQUIRE_PEERS") != "1":
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_every_example_is_tested_here_and_documented() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    names = [path.name for path in EXAMPLES.glob("*.py")]
    assert "demo.py" in names
    assert [name for name in names if f'run("{name}"' not in text] == []
    page = (EXAMPLES.parent / "docs" / "how-to" / "examples.md").read_text(encoding="utf-8")
    assert [name for name in names if f"(../../examples/{name})" not in page] == []


def test_the_first_program_of_the_readme() -> None:
    text = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert program
    assert run_program("-c", program[1]) == ["good day, Alice"]


def test_demo() -> None:
    lines = run("demo.py", "8")
    source = random.Random(1)
    file = b"".join(source.randbytes(1_000_000) for _ in range(8))
    assert f"same SHA-256 at both ends: {hashlib.sha256(file).hexdigest()}" in lines
    text = "\n".join(lines)
    assert re.search(r"^round trip of one byte: \d+ µs$", text, re.MULTILINE)
    assert re.search(r"^GET http://\S+: 8 MB in [\d.]+ s, [\d.]+ Gbit/s with SHA-256$", text, re.MULTILINE)
    # What each layer did: the file alone is more than five thousand segments of 1,500 bytes.
    sent = [int(number.replace(",", "")) for number in re.findall(r"TCP +([\d,]+) segments sent", text)]
    assert len(sent) == 2
    assert max(sent) > 8_000_000 // 1500


def test_loopback_echo() -> None:
    assert run("loopback_echo.py") == ["127.0.0.1 port 7: hello, myself", "::1 port 7: hello, myself"]


def test_two_hosts() -> None:
    assert run("two_hosts.py") == [
        "server: Alice called from 10.0.0.1",
        "client: good day, Alice",
        "server: Alice called from fd00::1",
        "client: good day, Alice",
        "client: the port is closed",
    ]


def test_names() -> None:
    assert run("names.py") == [
        "printer is 10.0.0.80, and says: good day, Alice",
        "db is 10.0.0.80, and says: good day, Alice",
        "www.example is fd00::80, and says: good day, Alice",
        "web is fd00::80, and says: good day, Alice",
        "getaddrinfo: AF_INET6 fd00::80 web.example",
        "getaddrinfo: AF_INET 10.0.0.80 ",
        "getnameinfo: printer http",
        "nobody.example: nobody.example.: no such name",
        "8 questions",
    ]


def test_streams_pipe() -> None:
    (line,) = run("streams_pipe.py")
    found = re.fullmatch(r"([\d,]+) bytes sent, ([\d,]+) came back; decompressed they are the same", line)
    assert found
    sent, came_back = (int(number.replace(",", "")) for number in found.groups())
    assert 0 < came_back < sent


def test_raw_frames() -> None:
    lines = run("raw_frames.py")
    frames = [line for line in lines if not line.startswith("frame: IPv6, ")]
    assert frames[:2] == ["frame: ARP: who has 10.0.0.2?", "frame: TCP: SYN to port 80"]
    assert frames[2].startswith("refused, as it should be: ")
    assert len(frames) == 3


def test_capture() -> None:
    lines = run("capture.py")
    assert lines[0] == "Bob says: good day, Alice"
    shape = r"0\.\d{6} tap0 (out|in ) 10\.0\.0\.\d:\d+ > 10\.0\.0\.\d:\d+ TCP \[.*\] seq \d+ .* \d+ bytes"
    segments = [line for line in lines if re.fullmatch(shape, line)]
    assert len(segments) >= 8
    assert lines[-2] == "what Bob sent: b'good day, Alice\\n'"
    assert lines[-1] == "Alice offered segments of 1460 bytes and a window scaled by 9 bits"


def test_bridge() -> None:
    lines = run("bridge.py")
    assert next(line for line in lines if ": good day, " in line) == "Bob to Alice: good day, Alice"
    assert sum(": good day, " in line for line in lines) == 10
    assert lines[-3:-1] == [
        "the bridge knows 3 addresses on 3 ports",
        "without his port, Bob does not answer",
    ]


def test_router() -> None:
    lines = run("router.py")
    assert "  10.2.0.0/24 by tun0" in lines
    for address in ("10.2.0.2", "fd02::2"):
        assert f"Alice has 3,200,000 bytes from {address}, the same as Bob's" in lines
    assert lines[-1] == "with forwarding off, the connection fails"


def test_kernel_tap() -> None:
    lines = run("kernel_tap.py", "10")
    assert sum(bool(re.match(r"10 MB .*: same SHA-256, [\d.]+ Gbit/s", line)) for line in lines) == 4


def test_vpn_tun() -> None:
    lines = run("vpn_tun.py")
    assert [line for line in lines if "unchanged" in line] == [
        f"1,000,000 bytes from {host} through the tunnel, unchanged" for host in ("10.8.0.2", "fd08::2")
    ]
    assert re.fullmatch(r"datagrams sent: \d+ and \d+; dropped: \d+ and [1-9]\d*", lines[-1])


def test_udp_chat() -> None:
    lines = run("udp_chat.py")
    assert lines.count("  Alice receives: hello from Carol") == 1
    assert sum(line.endswith("receives: the room has received it") for line in lines) == 3
    assert lines[-1] == "  a member receives: good night"


def test_ping() -> None:
    lines = run("ping.py")
    assert sum(bool(re.match(r"65,487 bytes from \S+: sequence 4, [\d.]+ ms", line)) for line in lines) == 3
    assert lines.count("100 more at once: all were answered") == 3
    assert lines[-2].startswith("10.0.0.3: Connection timed out")
    assert lines[-1].startswith("192.0.2.1: Network is unreachable")


def test_simulation() -> None:
    lines = run("simulation.py")
    assert re.fullmatch(r"100 answers in 1\d\d attempts, 1\d\d s of virtual time, \d{4} frames", lines[0])
    assert re.fullmatch(r"dropped: \d+ by crash, \d+ by loss, \d+ by partition", lines[1])
    assert lines[2] == "the same seed gives the same frames, another seed gives others"


def test_traceroute() -> None:
    assert run("traceroute.py") == [
        "the way to 10.0.3.2:",
        *("1 10.0.0.2", "2 10.0.1.2", "3 10.0.2.2", "4 10.0.3.2"),
        "the way to fd01:3::2:",
        *("1 fd01::2", "2 fd01:1::2", "3 fd01:2::2", "4 fd01:3::2"),
        "the second router forwards no more, and no host beyond it answers",
    ]


def test_slaac() -> None:
    lines = run("slaac.py")
    assert re.fullmatch(r"the host configured 2001:db8:1:0:\S+/64, and no other host has it", lines[1])
    assert lines[2:] == [
        "its name server is 2001:db8:1::53",
        "the router connected to it and received: good day, neighbour",
    ]


def test_dhcp_client() -> None:
    lines = run("dhcp_client.py")
    assert re.fullmatch(r"lease: 10\.66\.0\.1\d\d/24, router 10\.66\.0\.1, domain lab\.example", lines[0])
    assert lines[1] == "name servers: 10.66.0.53"
    assert lines[-2:] == ["the namespace pings it: three answers", "released, and dnsmasq has forgotten it"]


def test_dhcp_server() -> None:
    assert run("dhcp_server.py") == [
        "02:00:00:00:00:05 has 10.0.0.5/24, router 10.0.0.1, domain lab.internal",
        "02:00:00:00:00:06 has 10.0.0.100/24, router 10.0.0.1, domain lab.internal",
        "the server's table: 02:00:00:00:00:05=10.0.0.5 02:00:00:00:00:06=10.0.0.100",
        "after the release: 1 lease",
    ]


def test_dns_server() -> None:
    assert run("dns_server.py") == [
        "www.lab.internal: fd00::5, 10.0.0.5",
        "any.dev.lab.internal: 10.0.0.9",
        "host7.example: 10.0.1.7",
        "10.0.0.5 is db.lab.internal",
        "none.example.: no such name",
    ]


def test_http_server() -> None:
    assert run("http_server.py") == [
        "5,000,000 bytes, the same",
        "206 bytes 1000000-1000999/5000000 True",
        "404",
        "good day, Alice",
    ]


def test_netboot_services() -> None:
    assert run("netboot_services.py") == [
        "10.0.0.100 boots kernel.bin from 10.0.0.1",
        "100,000 bytes, the same",
        "the date is 2030-01-01",
    ]


def test_mdns() -> None:
    assert run("mdns.py") == [
        "Laser: printer.local port 80, 10.0.0.1, {'paper': b'a4'}",
        "the second host is printer-2.local",
        "the first finds it at 10.0.0.2",
        "Laser: removed",
    ]


def test_blocking_programs() -> None:
    assert run("blocking_programs.py") == ["bob serves 10.0.0.1", "alice has 10,240,000 bytes, the same"]


def test_existing_programs() -> None:
    assert run("existing_programs.py") == [
        "good day, 10.0.0.1",
        "10,240,000 bytes over TLS, the same at both ends",
        "refused: Connection refused: connect to 10.0.0.2 port 81",
    ]


def test_replicated_store(tmp_path: Path) -> None:
    capture = tmp_path / "stale-read.pcapng"
    first = SEED - 2
    arguments = ("--first", str(first), "--last", str(SEED), "--capture", str(capture))
    lines = run_program("-m", "examples.replicated_store", *arguments)
    assert capture.stat().st_size > 100_000
    # What the tutorial shows is this, but for the seeds before.
    tutorial = (EXAMPLES.parent / "docs" / "tutorial" / "replicated-store.md").read_text(encoding="utf-8")
    shown = tutorial.replace("seeds 0 to", f"seeds {first} to")
    assert "\n".join(lines) in shown


def test_websocket_relay() -> None:
    lines = run("websocket_relay.py")
    assert sorted(lines[:2]) == [f"10.0.0.{number} has the file: 1,048,576 bytes" for number in (2, 3)]
    assert sorted(lines[2:]) == ["10.0.0.2 reaches 10.0.0.3", "10.0.0.3 reaches 10.0.0.2"]


@pytest.mark.guest
def test_qemu_guest() -> None:
    assert run("qemu_guest.py") == ["the guest has fetched the file", "the stack has fetched it back: the same"]


def test_wireguard() -> None:
    assert run("wireguard.py") == [
        "5,000,000 bytes from 10.8.0.1, the same at both ends",
        "5,000,000 bytes from fd08::1, the same at both ends",
        "another key: no answer",
        "sessions: 1, forged: 1",
    ]

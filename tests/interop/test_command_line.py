"""``tcpip-wasm serve`` for Linux: a kernel in a namespace over a TAP device, and one in QEMU by the printed option."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.core_network import payload

from .harness.namespaces import network_namespace
from .harness.qemu import linux_guest
from .harness.requirements import require_kernel_peer, require_qemu

COMMAND = (sys.executable, "-m", "tcpip_wasm")

FETCH = """
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=60).read().hex())
"""


def test_the_kernel_fetches_a_file_over_a_tap_device(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    require_kernel_peer()
    file = payload(15, 300_000)
    (tmp_path / "file.bin").write_bytes(file)
    with network_namespace() as namespace:
        namespace.run("ip", "tuntap", "add", "tap0", "mode", "tap")
        namespace.run("ip", "address", "add", "10.0.0.9/24", "dev", "tap0")
        namespace.run("ip", "link", "set", "tap0", "up")
        server = namespace.start(*COMMAND, "serve", str(tmp_path), "--link", "tap:tap0", ready="Ctrl-C ends it")
        namespace.echoes("10.0.0.1", 2)
        fetched = namespace.run(sys.executable, "-c", FETCH, "http://10.0.0.1/file.bin").stdout
        assert hashlib.sha256(bytes.fromhex(fetched)).digest() == hashlib.sha256(file).digest()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


RESOLVE = """
import socket, sys
found = {family: socket.getaddrinfo(sys.argv[1], 80, family, socket.SOCK_STREAM) for family in (2, 10)}
print(*(entry[4][0] for family in found for entry in found[family]))
"""

WAIT_IPV6 = """
until ip -6 address show dev tap0 scope global | grep -q inet6; do sleep 0.05; done
ip address show dev tap0
"""

LEASE = """#!/bin/sh
[ "$1" != bound ] || ip address replace "$ip/$mask" dev "$interface"
exit 0
"""


def test_the_kernel_is_a_guest_by_ipv4_and_ipv6(tmp_path: Path) -> None:
    """It gets an address by DHCP, makes one of the advertised prefix, resolves the name by DNS over either, and fetches
    by both. Other names are those of dnsmasq, which is what the machine of the command asks."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    require_kernel_peer("udhcpc", "dnsmasq", "dig", "curl", "unshare", "sysctl")
    folder = tmp_path / "folder"
    folder.mkdir()
    file = payload(17, 3_000_000)
    (folder / "file.bin").write_bytes(file)
    (tmp_path / "lease").write_text(LEASE)
    (tmp_path / "lease").chmod(0o755)
    for name, asked in (("machine", "127.0.0.1"), ("by4", "10.0.0.1"), ("by6", "fd00::1")):
        (tmp_path / name).write_text(f"nameserver {asked}\n")

    def resolving(by: str, *argv: str) -> tuple[str, ...]:
        """A command line with a resolv.conf of its own."""
        mounted = f'mount --bind {tmp_path / by} /etc/resolv.conf && exec "$@"'
        return ("unshare", "-m", "sh", "-c", mounted, "sh", *argv)

    with network_namespace() as namespace:
        namespace.start(
            *("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file="),
            *("--user=root", "--no-resolv", "--no-hosts", "--no-poll", "--bind-interfaces", "--local=/example/"),
            *("--listen-address=127.0.0.1", "--host-record=www.example,192.0.2.7,2001:db8::7"),
            *("--txt-record=www.example,text of another server", "--host-record=other.internal,192.0.2.8"),
            ready="started",
        )
        namespace.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        namespace.run("ip", "tuntap", "add", "tap0", "mode", "tap")
        namespace.run("ip", "link", "set", "tap0", "up")
        command = (*COMMAND, "serve", str(folder), "--link", "tap:tap0", "--forward-names")
        server = namespace.start(*resolving("machine", *command), ready="Ctrl-C ends it")
        namespace.run("udhcpc", "-n", "-q", "-f", "-t", "10", "-i", "tap0", "-s", str(tmp_path / "lease"))
        addresses = namespace.run("sh", "-c", WAIT_IPV6, timeout=90).stdout
        assert re.search(r"inet 10\.0\.0\.\d+/24 ", addresses)
        assert re.search(r"inet6 fd00::[0-9a-f:]+/64 ", addresses)
        routes = namespace.run("ip", "-6", "route", "show", "default").stdout
        assert routes == "", "the server is no router"
        for address in ("10.0.0.1", "fd00::1"):
            namespace.echoes(address, 1)
        for by in ("by4", "by6"):
            found = namespace.run(*resolving(by, sys.executable, "-c", RESOLVE, "files.internal")).stdout
            assert found.split() == ["10.0.0.1", "fd00::1"]
            for family in ("-4", "-6"):
                fetch = ("curl", "-s", "-S", "-f", "-m", "60", family, "http://files.internal/file.bin")
                hashed = namespace.run(*resolving(by, "sh", "-c", '"$@" | sha256sum', "sh", *fetch), timeout=90).stdout
                assert hashed.split()[0] == hashlib.sha256(file).hexdigest()
            found = namespace.run(*resolving(by, sys.executable, "-c", RESOLVE, "www.example")).stdout
            assert found.split() == ["192.0.2.7", "2001:db8::7"]
        dig = ("dig", "+short", "+time=10", "+tries=1", "@fd00::1")
        assert namespace.run(*dig, "www.example", "TXT").stdout == '"text of another server"\n'
        assert namespace.run(*dig, "other.internal", "A").stdout == "", "names of the own domain are not forwarded"
        status = namespace.run(*dig[:1], *dig[2:], "other.internal", "A").stdout
        assert "status: NXDOMAIN" in status
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def test_other_names_are_not_forwarded_unless_asked(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    require_kernel_peer("dig")
    with network_namespace() as namespace:
        namespace.run("ip", "tuntap", "add", "tap0", "mode", "tap")
        namespace.run("ip", "address", "add", "10.0.0.9/24", "dev", "tap0")
        namespace.run("ip", "link", "set", "tap0", "up")
        namespace.start(*COMMAND, "serve", str(tmp_path), "--link", "tap:tap0", ready="Ctrl-C ends it")
        status = namespace.run("dig", "+time=10", "+tries=1", "@10.0.0.1", "www.example", "A").stdout
        assert "status: NXDOMAIN" in status
        assert "WARNING: recursion requested but not available" in status


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_a_guest_of_qemu_fetches_a_file_by_ipv4_and_ipv6(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    require_qemu("curl")
    file = payload(16, 2_000_000)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file.bin").write_bytes(file)
    command = [*COMMAND, "serve", str(folder), "--qemu", f"unix:{tmp_path / 'vm,1.sock'}"]
    script = """
udhcpc -n -q -t 10 -i eth0 -s /lease >/dev/null || echo NO LEASE
until ip -6 address show dev eth0 scope global | grep -q inet6; do sleep 0.1; done
for family in -4 -6; do
  curl -s -S -f $family -o file http://files.internal/file.bin && echo HASH $(sha256sum <file | cut -d ' ' -f 1)
done
"""

    async def fetched(netdev: str) -> list[str]:
        async with linux_guest(netdev, script, programs=["curl"]) as console:
            return [await console.line("HASH", 180.0) for _ in range(2)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            option = server.stdout.readline().rstrip("\n").partition(" -netdev ")[2]
            netdev = option.replace("id=card,", "")
            assert asyncio.run(fetched(netdev)) == [hashlib.sha256(file).hexdigest()] * 2
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0
        finally:
            server.kill()

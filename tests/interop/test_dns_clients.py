"""DNS clients of the kernel's side against the stack's server over a TAP device: dig, kdig and glibc's resolver; and
dnsmasq as the server that it forwards to.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from tcpip_wasm.services import DnsServer

from .harness.requirements import require_kernel_peer
from .scenarios import KERNEL_ADDRESSES, STACK_ADDRESSES, KernelPeer, kernel_peer

_HOST = STACK_ADDRESSES[4]
_RECORDS: dict[str, Any] = {
    "db.lab.internal": ["10.88.0.5", "fd88::5"],
    "www.lab.internal": "CNAME db.lab.internal.",
    "*.wild.lab.internal": "10.88.0.9",
    "lab.internal": ["MX 10 mail.lab.internal.", 'TXT "a text"', "NS ns.lab.internal.", 'CAA 0 issue "ca.example"'],
    "_http._tcp.lab.internal": "SRV 0 0 80 www.lab.internal.",
    "many.lab.internal": [f"10.99.{n // 200}.{n % 200 + 1}" for n in range(400)],
    **{f"host{n}.zone.lab.internal": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(10_000)},
}


def _run(work: Callable[[KernelPeer], Awaitable[None]], *programs: str, **options: Any) -> None:
    require_kernel_peer(*programs)

    async def main() -> None:
        async with kernel_peer("tap") as peer, asyncio.timeout(250):
            forward = options.pop("forward", False)
            if forward:
                peer.stack.name_servers = [KERNEL_ADDRESSES[4]]
                options["forward"] = peer.stack.resolver
            async with DnsServer(peer.stack, records=_RECORDS, **options):
                await work(peer)

    asyncio.run(main())


async def _output(peer: KernelPeer, *argv: str) -> str:
    return (await asyncio.to_thread(peer.namespace.run, *argv, timeout=100.0, check=False)).stdout


def test_dig() -> None:
    async def work(peer: KernelPeer) -> None:
        async def dig(*arguments: str, host: str = _HOST) -> str:
            return await _output(peer, "dig", f"@{host}", "+time=60", "+tries=1", *arguments)

        for host in STACK_ADDRESSES.values():
            assert await dig("+short", "db.lab.internal", "AAAA", host=host) == "fd88::5\n"
            assert await dig("+short", "+tcp", "www.lab.internal", host=host) == "db.lab.internal.\n10.88.0.5\n"
        assert await dig("+short", "-x", "10.88.0.5") == "db.lab.internal.\n"
        assert await dig("+short", "x.wild.lab.internal") == "10.88.0.9\n"
        assert await dig("+short", "lab.internal", "MX") == "10 mail.lab.internal.\n"
        assert await dig("+short", "lab.internal", "CAA") == '0 issue "ca.example"\n'
        assert await dig("+short", "_http._tcp.lab.internal", "SRV") == "0 0 80 www.lab.internal.\n"
        assert await dig("+short", "host9999.zone.lab.internal") == "10.0.39.15\n"
        assert len((await dig("+short", "many.lab.internal")).split()) == 400  # by TCP
        assert len((await dig("+short", "+noedns", "many.lab.internal")).split()) == 400
        for name, rdtype, status in [
            ("none.lab.internal", "A", "NXDOMAIN"),
            ("db.lab.internal", "MX", "NOERROR"),
            ("zone.lab.internal", "A", "NOERROR"),
        ]:
            report = await dig(name, rdtype)
            assert f"status: {status}" in report
            assert "flags: qr aa rd;" in report
            assert "ANSWER: 0, AUTHORITY: 1" in report
            assert "SOA" in report
        assert "status: BADVERS" in await dig("+edns=1", "+noednsneg", "db.lab.internal")
        assert "status: NOTIMP" in await dig("+opcode=status", "db.lab.internal")
        assert "Transfer failed" in await dig("lab.internal", "AXFR")
        assert "WARNING" not in await dig("+norecurse", "db.lab.internal")

    _run(work, "dig")


def test_kdig() -> None:
    async def work(peer: KernelPeer) -> None:
        report = await _output(
            peer, "kdig", f"@{_HOST}", "+edns", "+dnssec", "db.lab.internal", "A", "db.lab.internal", "AAAA"
        )
        assert report.count("status: NOERROR") == 2
        assert "10.88.0.5" in report
        assert "fd88::5" in report
        assert "flags: do" in report
        assert "WARNING" not in report
        keep = await _output(
            peer, "kdig", f"@{_HOST}", "+tcp", "+keepopen", "+short", "db.lab.internal", "www.lab.internal"
        )
        assert keep.split() == ["10.88.0.5", "db.lab.internal.", "10.88.0.5"]

    _run(work, "kdig")


_GLIBC = """
import json, socket, sys
def ask(host):
    try:
        return sorted({info[4][0] for info in socket.getaddrinfo(host, 80)})
    except socket.gaierror as error:
        return error.errno
print(json.dumps([ask(host) for host in sys.argv[1:]]))
"""


def test_glibc() -> None:
    async def work(peer: KernelPeer) -> None:
        hosts = ["db.lab.internal", "www.lab.internal", "none.lab.internal", "many.lab.internal", "db"]
        # A file of this command alone is what it reads for /etc/resolv.conf: `ip netns exec` gives it its own mounts.
        setting = f"nameserver {_HOST}\\nsearch lab.internal\\noptions timeout:60 attempts:1\\n"
        mount = f"printf '{setting}' > /tmp/$$.conf && mount --bind /tmp/$$.conf /etc/resolv.conf && rm /tmp/$$.conf"
        report = await _output(
            peer, "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-I", "-c", _GLIBC, *hosts
        )
        found = json.loads(report)
        assert found[0] == found[1] == found[4] == ["10.88.0.5", "fd88::5"]
        assert found[2] == -2
        assert len(found[3]) == 400

    _run(work)


def test_forwarding_to_dnsmasq() -> None:
    async def work(peer: KernelPeer) -> None:
        await asyncio.to_thread(
            peer.namespace.start,
            *("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file="),
            *("--user=root", "--no-resolv", "--no-hosts", "--bind-interfaces", "--local=/test/", "--local-ttl=60"),
            *(f"--listen-address={KERNEL_ADDRESSES[4]}", "--host-record=web.test,10.88.0.2,fd88::2"),
            *("--cname=alias.test,web.test", "--txt-record=text.test,some text", "--mx-host=mx.test,mail.test,5"),
            *(f"--host-record=many.test,10.99.{n // 200}.{n % 200 + 1}" for n in range(100)),
            ready="started",
        )

        async def dig(*arguments: str) -> str:
            return await _output(peer, "dig", f"@{_HOST}", "+time=60", "+tries=1", *arguments)

        for _ in range(2):  # from the other server, then from the cache
            assert await dig("+short", "web.test", "AAAA") == "fd88::2\n"
            assert await dig("+short", "alias.test") == "web.test.\n10.88.0.2\n"
            assert await dig("+short", "text.test", "TXT") == '"some text"\n'
            assert await dig("+short", "mx.test", "MX") == "5 mail.test.\n"
            assert len((await dig("+short", "many.test")).split()) == 100
            report = await dig("web.test")
            assert "flags: qr rd ra;" in report
            assert "status: NXDOMAIN" in await dig("none.test")
            nodata = await dig("text.test", "A")
            assert "status: NOERROR" in nodata
            assert "ANSWER: 0" in nodata
        assert await dig("+short", "db.lab.internal") == "10.88.0.5\n"

    _run(work, "dig", "dnsmasq", forward=True)

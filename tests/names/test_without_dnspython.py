"""Without the extra: everything but DNS queries works, and the error says what to install."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, socket, sys

sys.modules["dns"] = None  # as if it were not installed
import tcpip_wasm


async def main():
    async with await tcpip_wasm.create_stack() as stack:
        stack.hosts["db"] = "127.0.0.1"
        server = await stack.create_server(asyncio.Protocol, "db", 80)
        for host in ("127.0.0.1", "db", "localhost"):
            (await stack.connect_tcp(host, 80)).abort()
        print(await stack.getnameinfo(("127.0.0.1", 80)))
        try:
            await stack.connect_tcp("www.test", 80)
        except OSError as error:
            print(isinstance(error, socket.gaierror), isinstance(error, tcpip_wasm.TcpipError), error)
        assert stack.resolver.statistics().udp_queries == 0


asyncio.run(main())
print(sorted(name for name in sys.modules if name.partition(".")[0] == "dns"))
"""


def test_names_of_the_hosts_table_need_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    known, failed, modules = done.stdout.splitlines()
    assert known == "('db', 'http')"
    assert failed.startswith("True True ")
    assert "www.test" in failed
    assert "pip install 'tcpip_wasm[dns]'" in failed
    assert modules == "['dns']"


def test_dnspython_is_imported_only_for_a_query() -> None:
    program = PROGRAM.replace('sys.modules["dns"] = None', "")
    program = program.replace('await stack.connect_tcp("www.test", 80)', "pass")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

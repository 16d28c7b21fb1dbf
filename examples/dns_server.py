"""A stack that answers for names: records, a wildcard, and a function for the rest.

The guest asks with its own resolver; dig or a virtual machine's resolver get the same answers. It needs dnspython:
pip install 'tcpip_wasm[dns]'.
"""

import asyncio
import sys

from tcpip_wasm import NameResolutionError, connect, create_stack
from tcpip_wasm.services import DnsServer

try:
    import dns  # noqa: F401
except ImportError:
    print("dnspython is not installed: pip install 'tcpip_wasm[dns]'")
    sys.exit(77)

RECORDS = {
    "db.lab.internal": ["10.0.0.5", "fd00::5"],
    "www.lab.internal": "CNAME db.lab.internal.",
    "*.dev.lab.internal": "10.0.0.9",
}


async def numbered(name: str, rdtype: str) -> list[str] | None:
    """Return 10.0.1.N for hostN.example; other names do not exist."""
    first, _, rest = name.partition(".")
    if rest != "example" or not first.removeprefix("host").isdigit():
        return None
    return [f"10.0.1.{first.removeprefix('host')}"] if rdtype == "A" else []


async def main() -> None:
    async with await create_stack() as host, await create_stack(name_server=("10.0.0.1", 53)) as guest:
        connect(
            await host.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
            await guest.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"]),
        )
        async with DnsServer(host, records=RECORDS, handler=numbered):
            for name in ("www.lab.internal", "any.dev.lab.internal", "host7.example"):
                found = dict.fromkeys(info[4][0] for info in await guest.getaddrinfo(name, 80))
                print(f"{name}: {', '.join(found)}")
            print("10.0.0.5 is", (await guest.getnameinfo(("10.0.0.5", 80)))[0])
            try:
                await guest.getaddrinfo("none.example", 80)
            except NameResolutionError as error:
                print(error.strerror)


if __name__ == "__main__":
    asyncio.run(main())

"""Traceroute in a dozen lines: pings whose TTL expires one router further each time.

`traceroute` works over any path. Here it is four hops long: a host, three stacks that forward, and another host. The
routers report by ICMP where a TTL has expired.
"""

import asyncio
from contextlib import AsyncExitStack
from ipaddress import ip_address
from itertools import pairwise

from tcpip_wasm import NetworkStack, TimeExceededError, connect, create_stack

ROUTERS = 3


async def traceroute(stack: NetworkStack, host: str, most: int = 30) -> list[str]:
    """Return the addresses of the routers on the path to a host, and the host's at the end; * for no answer."""
    hops = []
    async with await stack.create_ping_session(host) as session:
        for ttl in range(1, most + 1):
            try:
                reply = await session.ping(ttl=ttl)
            except TimeExceededError as error:
                hops.append(error.reporter)
            except TimeoutError:
                hops.append("*")
            else:
                return [*hops, reply.host]
    return hops


async def chain(held: AsyncExitStack) -> list[NetworkStack]:
    """Return hosts in a row: link n connects host n, with .1 on it, and the next one, with .2; IPv6 likewise."""
    stacks = [await held.enter_async_context(await create_stack()) for _ in range(ROUTERS + 2)]
    for link, (near, far) in enumerate(pairwise(stacks)):
        connect(
            await near.create_tap_interface(ip=[f"10.0.{link}.1/24", f"fd01:{link}::1/64"]),
            await far.create_tap_interface(ip=[f"10.0.{link}.2/24", f"fd01:{link}::2/64"]),
        )
        # Networks with higher numbers are reached through the next host, others through the previous one.
        near.add_route("0.0.0.0/0", via=f"10.0.{link}.2")
        near.add_route("::/0", via=f"fd01:{link}::2")
        for behind in range(link):
            far.add_route(f"10.0.{behind}.0/24", via=f"10.0.{link}.1")
            far.add_route(f"fd01:{behind}::/64", via=f"fd01:{link}::1")
    for router in stacks[1:-1]:
        router.forwarding = True
    return stacks


async def main() -> None:
    async with AsyncExitStack() as held:
        stacks = await chain(held)
        for form in ("10.0.{}.2", "fd01:{}::2"):
            way = [str(ip_address(form.format(link))) for link in range(ROUTERS + 1)]
            print(f"the way to {way[-1]}:")
            hops = await traceroute(stacks[0], way[-1])
            for number, hop in enumerate(hops, 1):
                print(number, hop)
            if hops != way:
                raise SystemExit(f"the way is {way}")
        stacks[2].forwarding = False
        if await traceroute(stacks[0], "10.0.3.2", most=2) != ["10.0.0.2", "*"]:
            raise SystemExit("a host that does not forward is not a router")
        print("the second router forwards no more, and no host beyond it answers")


if __name__ == "__main__":
    asyncio.run(main())

"""A chat room over UDP, without connections.

One host has the room, which repeats each message to all guests that have sent one. On the other host three
guests have a socket each. At the end the room sends good night to a multicast group that they joined.
"""

import asyncio

from tcpip_wasm import UdpDatagram, UdpSocket, connect, create_stack

ROOM, PORT = "10.0.0.1", 4000
GROUP = "239.1.1.1"
GUESTS = ("Alice", "Bob", "Carol")


async def keep_room(udp: UdpSocket) -> None:
    known: set[tuple[str, int]] = set()
    async for datagram in udp:
        speaker = (datagram.host, datagram.port)
        for host, port in known - {speaker}:
            await udp.send(UdpDatagram(host, port, datagram.data))
        known.add(speaker)
        await udp.send(UdpDatagram(*speaker, b"the room has received it"))


async def expect(name: str, udp: UdpSocket, expected: str) -> None:
    text = (await asyncio.wait_for(udp.receive(), 10)).data.decode()
    if text != expected:
        raise SystemExit(f"{name} received {text!r}, not {expected!r}")
    print(f"  {name} receives: {text}")


async def main() -> None:
    async with await create_stack() as home, await create_stack() as away:
        connect(
            await home.create_tap_interface(ip="10.0.0.1/24"),
            await away.create_tap_interface(ip="10.0.0.2/24"),
        )
        room = await home.open_udp(port=PORT)  # it ends when the socket is closed
        keeper = asyncio.create_task(keep_room(room))
        guests = {name: await away.open_udp() for name in GUESTS}
        for number, (name, udp) in enumerate(guests.items()):
            print(f"{name} says hello")
            await udp.send(UdpDatagram(ROOM, PORT, f"hello from {name}".encode()))
            await expect(name, udp, "the room has received it")
            for other in GUESTS[:number]:
                await expect(other, guests[other], f"hello from {name}")

        # One datagram for all members of the group; another socket receives it, on the group's port.
        async with await away.open_udp(port=4001) as member, await home.open_udp() as speaker:
            member.join_group(GROUP)
            print("the room says good night to the group")
            await speaker.send(UdpDatagram(GROUP, 4001, b"good night"))
            await expect("a member", member, "good night")
        await room.close()
        await keeper


if __name__ == "__main__":
    asyncio.run(main())

"""Names instead of addresses: from a hosts table, and from a DNS server that runs on another stack.

A stack resolves the names in `stack.hosts` itself. For others it queries the servers in `stack.name_servers`, over its
own UDP and TCP; no packet leaves this process. The server here is thirty lines around dnspython, which the resolver
needs, too: pip install 'tcpip_wasm[dns]'.
"""

import asyncio
import socket
import sys

from tcpip_wasm import NameResolutionError, NetworkStack, connect, create_stack

try:
    import dns.message
    import dns.rcode
    import dns.rdatatype
    import dns.rrset
except ImportError:
    print("dnspython is not installed: pip install 'tcpip_wasm[dns]'")
    sys.exit(77)

ZONE = {
    ("www.example.", "CNAME"): "web.example.",
    ("web.example.", "A"): "10.0.0.80",
    ("web.example.", "AAAA"): "fd00::80",
}


class NameServer(asyncio.DatagramProtocol):
    """Answers queries for the zone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = dns.message.make_response(query := dns.message.from_wire(data))
        name, rdtype = query.question[0].name.to_text().lower(), dns.rdatatype.to_text(query.question[0].rdtype)
        while alias := ZONE.get((name, "CNAME")):
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", alias))
            name = alias
        if value := ZONE.get((name, rdtype)):
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", rdtype, value))
        elif all(owner != name for owner, _ in ZONE):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = (await reader.readline()).decode().strip()
    writer.write(f"good day, {name}\n".encode())
    writer.close()


async def call(client: NetworkStack, host: str) -> None:
    reader, writer = await client.open_connection(host, 80)
    writer.write(b"Alice\n")
    answer = (await reader.readline()).decode().strip()
    print(f"{host} is {writer.get_extra_info('peername')[0]}, and says: {answer}")
    assert answer == "good day, Alice"
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    async with await create_stack(name_server=("10.0.0.80", 53)) as client, await create_stack() as host:
        connect(
            await client.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
            await host.create_tap_interface(ip=["10.0.0.80/24", "fd00::80/64"]),
        )
        await host.start_server(greet, port=80)
        await host.create_datagram_endpoint(NameServer, ("10.0.0.80", 53))

        # The hosts table comes first, without a query.
        client.hosts["printer"] = "10.0.0.80"
        client.hosts.load("10.0.0.80  db.example  db  # as in /etc/hosts\n")
        await call(client, "printer")
        await call(client, "db")
        assert client.resolver.statistics().udp_queries == 0

        # Others by DNS: both families at once, IPv6 first, and the answers are cached.
        await call(client, "www.example")
        client.resolver.search = ["example"]
        await call(client, "web")
        for info in await client.getaddrinfo("www.example", 80, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME):
            print("getaddrinfo:", info[0].name, info[4][0], info[3])
        print("getnameinfo:", *await client.getnameinfo(("10.0.0.80", 80)))
        try:
            await client.open_connection("nobody.example", 80)
        except NameResolutionError as error:
            print("nobody.example:", error.strerror)
        print(f"{client.resolver.statistics().udp_queries} questions")


if __name__ == "__main__":
    asyncio.run(main())

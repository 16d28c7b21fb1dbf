"""The content of replies to DHCP clients: the options of their network, of their lease, and of what they boot.

It knows no leases: which address a client gets is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from math import inf
from typing import Final

from tcpip_wasm.services.dhcp import settings, wire
from tcpip_wasm.services.dhcp.table import Pool

RENEWAL_SHARE: Final = 0.5
REBINDING_SHARE: Final = 0.875
"""Parts of a lease after which a client asks this server, and any server (RFC 2131, section 4.4.5)."""


class Replies:
    """Makes replies.

    Args:
        own: the server's address.
        pools: for the networks of clients.
        lease_time: seconds of a lease.
        options: what all clients get.
        boot_file, boot_server: see `DhcpServer`.
        report: takes what the caller's function for a boot file raised.
    """

    def __init__(
        self,
        own: IPv4Address,
        pools: tuple[Pool, ...],
        lease_time: float,
        options: Mapping[int, bytes],
        boot_file: settings.BootFile,
        boot_server: str | None,
        report: Callable[[BaseException, str], None],
    ) -> None:
        self._own = own
        self._pools = pools
        self._options = options
        self._boot_file = boot_file
        self._boot_server = boot_server or str(own)
        self._report = report
        self._times = {wire.LEASE_TIME: wire.seconds_option(lease_time)}
        if lease_time < inf:
            self._times[wire.RENEWAL] = wire.seconds_option(lease_time * RENEWAL_SHARE)
            self._times[wire.REBINDING] = wire.seconds_option(lease_time * REBINDING_SHARE)

    def make(
        self, kind: int, request: wire.Request, address: IPv4Address | None, pool: Pool | None = None
    ) -> wire.Reply:
        """Return a reply.

        Args:
            kind: `wire.OFFER` or `wire.ACK`.
            request: what it answers.
            address: what the client gets; None where it has one of its own.
            pool: of the client's network, where it has an address of its own.
        """
        pool = pool or next(one for one in self._pools if address in one.network)
        options = {wire.SUBNET_MASK: pool.network.netmask.packed, wire.BROADCAST: pool.network.broadcast_address.packed}
        if pool.router is not None:
            options[wire.ROUTER] = pool.router.packed
        if address is not None:
            options.update(self._times)
        reply = wire.Reply(kind, address or wire.UNSPECIFIED, options={**options, **self._options})
        boot_file = self._find_boot_file(request)
        if boot_file is not None:
            reply.boot_file, reply.boot_server = boot_file.encode(), self._boot_server.encode()
            reply.next_server = settings.address_or_none(self._boot_server) or self._own
        return reply

    def _find_boot_file(self, request: wire.Request) -> str | None:
        try:
            return settings.boot_file_for(self._boot_file, request)
        except Exception as error:  # of the caller's function; the client gets its address all the same
            self._report(error, "the function for a boot file failed")
            return None

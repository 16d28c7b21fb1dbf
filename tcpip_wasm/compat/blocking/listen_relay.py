"""The stack's side of a listening socket: `ListenRelay` tells the program of each connection by one byte."""

from __future__ import annotations

import _socket
from collections import deque

from tcpip_wasm.compat.blocking.relay import Relay, StreamRelay
from tcpip_wasm.compat.blocking.socket_pair import Channel, State, new_pair, own_addresses, socket_name
from tcpip_wasm.sockets import TcpServer
from tcpip_wasm.stack_parts import parts_of


class ListenRelay(Relay):
    """Accepts connections, and tells the program of each by one message.

    Args:
        channel: what it shares with the socket.
        far: the loop's end of the pair.

    Attributes:
        accepted: relays and program's ends of the connections that wait.
    """

    def __init__(self, channel: Channel, far: _socket.socket) -> None:
        super().__init__(channel, far)
        self._pairs: dict[StreamRelay, _socket.socket] = {}
        self.accepted: deque[tuple[Channel, StreamRelay, _socket.socket]] = deque()
        self._server: TcpServer | None = None

    async def listen(self, backlog: int) -> None:
        """Listen where the channel says.

        Raises: what `NetworkStack.create_server` raises.
        """
        channel = self._channel
        assert channel.bound is not None
        addresses = await own_addresses(channel)
        port = channel.bound[1]
        server = parts_of(channel.host.stack).tcp.serve(
            self._make, addresses, port, max(1, backlog), hold_backlog=True, share=channel.values.share()
        )
        self._server = server
        server.on_gone = self._gone
        channel.local = socket_name(channel.family, channel.bound[0], server.port)
        channel.state = State.LISTENING
        self._loop.add_reader(self.far, self.close)  # the program says nothing here, but closes

    def _make(self) -> StreamRelay:
        own = self._channel
        channel = Channel(own.host, own.family, own.kind)
        channel.values = own.values.copy()
        near, far = new_pair(own.kind)
        relay = channel.relay = StreamRelay(channel, far, self)
        self._pairs[relay] = near
        return relay

    def arrived(self, relay: StreamRelay) -> None:
        """A connection is open."""
        self.accepted.append((relay._channel, relay, self._pairs.pop(relay)))  # noqa: SLF001  relays of one listener
        try:
            self.far.send(b"+")
        except OSError:  # closed, or more wait than the pair holds
            self.accepted.pop()[2].close()
            relay.discard()

    async def option(self, option: int, value: int) -> None:
        """Nothing to do: connections take the listener's options when they arrive."""

    async def end(self) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Stop listening, and reset what waits to be accepted. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.on_gone = None
        server.close()
        self._end()

    def _gone(self) -> None:
        self._channel.fail(parts_of(self._channel.host.stack).driver.error)
        self._server = None
        self._end()

    def _end(self) -> None:
        self._loop.remove_reader(self.far)
        self.far.close()
        while self.accepted:
            _, relay, near = self.accepted.popleft()
            near.close()
            relay.discard()

"""The stack's side of a listening socket: `ListenRelay` sends the program one byte for each connection."""

from __future__ import annotations

import _socket
from collections import deque

from tcpip_wasm.compat.blocking.relay import Relay, StreamRelay
from tcpip_wasm.compat.blocking.socket_pair import Channel, State, new_pair, own_addresses, socket_name
from tcpip_wasm.sockets import TcpServer
from tcpip_wasm.stack_parts import parts_of


class ListenRelay(Relay):
    """Accepts connections, and sends the program a message of one byte for each.

    Args:
        channel: what it shares with the socket.
        loop_end: the loop's end of the pair.

    Attributes:
        accepted: relays and program's ends of the connections that wait to be accepted.
    """

    def __init__(self, channel: Channel, loop_end: _socket.socket) -> None:
        super().__init__(channel, loop_end)
        self._pairs: dict[StreamRelay, _socket.socket] = {}
        self.accepted: deque[tuple[Channel, StreamRelay, _socket.socket]] = deque()
        self._server: TcpServer | None = None

    async def listen(self, backlog: int) -> None:
        """Listen at the channel's address.

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
        server.on_gone = self._loop_ended
        channel.local = socket_name(channel.family, channel.bound[0], server.port)
        channel.state = State.LISTENING
        self._loop.add_reader(self.loop_end, self.close)  # the program sends nothing here, so readable means closed

    def _make(self) -> StreamRelay:
        own = self._channel
        channel = Channel(own.host, own.family, own.kind)
        channel.values = own.values.copy()
        program_end, loop_end = new_pair(own.kind)
        relay = channel.relay = StreamRelay(channel, loop_end, self)
        self._pairs[relay] = program_end
        return relay

    def add_connection(self, relay: StreamRelay) -> None:
        """Queue an established connection, and notify the program."""
        self.accepted.append((relay._channel, relay, self._pairs.pop(relay)))  # noqa: SLF001  relays of one listener
        try:
            self.loop_end.send(b"+")
        except OSError:  # closed, or more connections wait than the pair holds messages
            self.accepted.pop()[2].close()
            relay.discard()

    async def option(self, option: int, value: int) -> None:
        """Do nothing: an accepted connection gets the listener's options when it is established."""

    async def end(self) -> None:
        """Stop listening."""
        self.close()

    def close(self) -> None:
        """Stop listening, and reset the connections that wait to be accepted. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.on_gone = None
        server.close()
        self._end()

    def _loop_ended(self) -> None:
        self._channel.fail(parts_of(self._channel.host.stack).driver.error)
        self._server = None
        self._end()

    def _end(self) -> None:
        self._loop.remove_reader(self.loop_end)
        self.loop_end.close()
        while self.accepted:
            _, relay, program_end = self.accepted.popleft()
            program_end.close()
            relay.discard()

"""anyio's byte streams and listeners over a stack's connections: `StackStream` and `StackListener`.

    stream = StackStream(await stack.connect_tcp(host="10.0.0.2", port=80))

For anyio programs on asyncio; needs the extra ``anyio``. They use `TcpConnection`, so the receive window opens only as
a task receives.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from tcpip_wasm.compat.adapters.extras import extra
from tcpip_wasm.errors import StreamClosedError, StreamLockedError
from tcpip_wasm.sockets import TcpConnection, TcpListener

with extra("anyio"):
    import anyio
    import anyio.lowlevel
    from anyio.abc import ByteStream, Listener, SocketAttribute, TaskGroup

__all__ = ["StackListener", "StackStream"]


def _attributes(local: tuple[str, int]) -> dict[Any, Callable[[], Any]]:
    return {
        SocketAttribute.family: lambda: socket.AF_INET6 if ":" in local[0] else socket.AF_INET,
        SocketAttribute.local_address: lambda: local,
        SocketAttribute.local_port: lambda: local[1],
    }


class StackStream(ByteStream):
    """A byte stream over a connection, which it owns from now on.

    Args:
        connection: without a reader or writer.
    """

    def __init__(self, connection: TcpConnection) -> None:
        self._connection = connection
        self._reader = connection.readable.get_reader()
        self._writer = connection.writable.get_writer()
        self._left = b""
        self._busy = {"read from": False, "write to": False}
        self._closed = False

    def __repr__(self) -> str:
        return f"<StackStream {self._connection!r}>"

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Family, local and remote address and port; there is no raw socket."""
        remote = self._connection.remote_address
        return {
            **_attributes(self._connection.local_address),
            SocketAttribute.remote_address: lambda: remote,
            SocketAttribute.remote_port: lambda: remote[1],
        }

    def _begin(self, what: str) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._busy[what]:
            raise anyio.BusyResourceError(what)
        self._busy[what] = True

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return received bytes as soon as there are some. Cancelled, it loses none.

        Args:
            max_bytes: the most bytes to return, at least 1.

        Raises:
            anyio.EndOfStream: the peer has ended its data.
            anyio.BrokenResourceError: the connection was lost.
            anyio.ClosedResourceError, anyio.BusyResourceError: closed here, or another task receives.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes: {max_bytes} is not at least 1")
        await anyio.lowlevel.checkpoint()
        self._begin("read from")
        try:
            if not self._left:
                chunk = await self._reader.read()
                if chunk is None:
                    raise anyio.ClosedResourceError if self._closed else anyio.EndOfStream
                self._left = chunk
            data, self._left = self._left[:max_bytes], self._left[max_bytes:]
            return data
        except OSError as error:
            raise self._broken() from error
        finally:
            self._busy["read from"] = False

    async def send(self, item: bytes) -> None:
        """Return once the stack has accepted the data, or it is buffered below the high-water mark.

        Raises:
            anyio.BrokenResourceError: the connection was lost.
            anyio.ClosedResourceError, anyio.BusyResourceError: closed here, or another task sends.
        """
        await anyio.lowlevel.checkpoint()
        self._begin("write to")
        try:
            if item:
                await self._writer.write(bytes(item))
        except (OSError, StreamClosedError, StreamLockedError) as error:
            raise self._broken() from error
        finally:
            self._busy["write to"] = False

    def _broken(self) -> Exception:
        return anyio.ClosedResourceError() if self._closed else anyio.BrokenResourceError()

    async def send_eof(self) -> None:
        """Send FIN: end the data sent; receiving goes on. Idempotent."""
        self._begin("write to")
        try:
            await self._writer.close()
        except OSError as error:
            raise self._broken() from error
        finally:
            self._busy["write to"] = False

    async def aclose(self) -> None:
        """Close the connection; data already sent is still delivered. Cancelled, it is reset. Idempotent."""
        if self._closed:
            await anyio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            await anyio.lowlevel.checkpoint()
            await self._connection.close()
        except BaseException:
            self._connection.abort()
            raise


class StackListener(Listener[StackStream]):
    """Accepts connections of a stack's listener, which it owns from now on.

    Args:
        listener: of `NetworkStack.listen_tcp`.
    """

    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The port that the listener uses."""
        return {SocketAttribute.local_port: lambda: self._listener.port}

    async def serve(
        self, handler: Callable[[StackStream], Coroutine[Any, Any, Any]], task_group: TaskGroup | None = None
    ) -> None:
        """Start the handler in a task for each connection, until cancelled or closed."""
        async with anyio.create_task_group() as own:
            async for connection in self._listener:
                (task_group or own).start_soon(handler, StackStream(connection))

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.close()

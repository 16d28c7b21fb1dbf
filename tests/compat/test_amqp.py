"""py-amqp's transport, which Celery and kombu use: it reads and sets every option of TCP when it connects."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

import pytest

from tests.kit.blocking_sockets import BOUND, Background, polyfilled

transport = pytest.importorskip("amqp.transport")

FRAME_END = 0xCE
SIZES = (0, 1, 131_064, 5)
"""Bytes of the payloads that are exchanged; the third fills the largest frame of RabbitMQ's default."""


def exactly(sock: Any, count: int) -> bytes:
    """Return `size` bytes."""
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, "the connection ended"
        data += chunk
    return bytes(data)


def serve(listener: Any) -> tuple[bytes, list[int]]:
    """Answer every frame with its payload reversed; return the header and the payloads' lengths."""
    with listener.accept()[0] as sock:
        sock.settimeout(BOUND)
        header = exactly(sock, 8)
        lengths = []
        for _ in SIZES:
            kind, channel, length = struct.unpack(">BHI", exactly(sock, 7))
            payload = exactly(sock, length)
            assert exactly(sock, 1)[0] == FRAME_END
            lengths.append(length)
            sock.sendall(struct.pack(">BHI", kind, channel, length) + payload[::-1] + bytes([FRAME_END]))
        assert sock.recv(1) == b""
    return header, lengths


@pytest.mark.parametrize("kind", ["kernel", "stack"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_connects_and_exchanges_frames(kind: str, host: str) -> None:
    with polyfilled(kind), contextlib.ExitStack() as stack:
        address = "::1" if ":" in host else "127.0.0.1"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = stack.enter_context(socket.create_server((address, 0), family=family))
        listener.settimeout(BOUND)
        server = Background(serve, listener)
        port = listener.getsockname()[1]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        client = transport.TCPTransport(where, connect_timeout=BOUND, read_timeout=BOUND, write_timeout=BOUND)
        client.connect()
        for number, size in enumerate(SIZES):
            payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
            client.write(struct.pack(">BHI", 3, number, size) + payload + bytes([FRAME_END]))
            assert client.read_frame() == (3, number, payload[::-1])
        client.close()
        header, lengths = server.result()
        assert header == b"AMQP\x00\x00\x09\x01"
        assert lengths == list(SIZES)


def test_options_have_the_values_that_were_set() -> None:
    with polyfilled("stack"), socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        options = {socket.TCP_USER_TIMEOUT: 4000, socket.TCP_KEEPIDLE: 33, socket.TCP_KEEPCNT: 3}
        client = transport.TCPTransport(f"127.0.0.1:{port}", connect_timeout=BOUND, socket_settings=options)
        client.connect()
        for option, value in options.items():
            assert client.sock.getsockopt(socket.IPPROTO_TCP, option) == value
        assert client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > 10_000  # the loopback's MTU
        client.close()

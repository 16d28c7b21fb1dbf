"""The text of transports' addresses, and the files of Unix sockets."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from tcpip_wasm.links.transport_address import TransportAddress, bind_unix, listen_stream, parse_address

ALL = ("unix", "tcp", "udp")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/vm.sock", TransportAddress("unix", path="/run/vm.sock")),
        ("unix:a:b", TransportAddress("unix", path="a:b")),
        ("tcp:127.0.0.1:4444", TransportAddress("tcp", host="127.0.0.1", port=4444)),
        ("tcp:[::1]:0", TransportAddress("tcp", host="::1", port=0)),
        ("udp:localhost:65535", TransportAddress("udp", host="localhost", port=65535)),
    ],
)
def test_addresses_are_parsed_and_printed(text: str, address: TransportAddress) -> None:
    assert parse_address(text, kinds=ALL) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "unix:PATH or tcp:HOST:PORT or udp:HOST:PORT is needed, not ''"),
        ("/run/vm.sock", "is needed, not '/run/vm.sock'"),
        ("unix:", "is needed, not 'unix:'"),
        ("unix:a\0b", "a path of up to 107 bytes"),
        ("unix:" + 108 * "x", "a path of up to 107 bytes"),
        ("tcp:127.0.0.1", "a port of 0 to 65535 is needed, not '127.0.0.1'"),
        ("tcp:127.0.0.1:65536", "not '65536'"),
        ("tcp:127.0.0.1:-1", "not '-1'"),
        ("tcp:127.0.0.1:²", "not '²'"),
        ("tcp::80", "a host is needed"),
        ("tcp:::1:80", "needs brackets"),
        ("ws:127.0.0.1:80", "is needed, not 'ws:127.0.0.1:80'"),
    ],
)
def test_wrong_addresses_are_named(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^place: ") as raised:
        parse_address(text, kinds=ALL, argument="place")
    assert reason in str(raised.value)


def test_other_kinds_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match="unix:PATH is needed, not 'tcp:h:1'"):
        parse_address("tcp:h:1", kinds=("unix",))
    with pytest.raises(TypeError, match="text is needed"):
        parse_address(b"unix:/x", kinds=ALL)  # type: ignore[arg-type]


def test_a_socket_file_is_for_its_user_alone_and_replaces_an_abandoned_one(tmp_path: Path) -> None:
    path = str(tmp_path / "vm.sock")
    with listen_stream(TransportAddress("unix", path=path)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with pytest.raises(OSError, match="in use") as raised:
            listen_stream(TransportAddress("unix", path=path))
        assert raised.value.errno == errno.EADDRINUSE
    assert os.path.exists(path), "a socket that is closed leaves its file"
    with listen_stream(TransportAddress("unix", path=path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "vm.sock"
    path.write_bytes(b"not a socket")
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="in use") as raised:
        bind_unix(sock, str(path))
    assert raised.value.errno == errno.EADDRINUSE
    assert path.read_bytes() == b"not a socket"

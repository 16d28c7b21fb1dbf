"""`SSLSocket`: TLS over a `Socket`, by the standard library's own class, which reads and writes by descriptor.

What `ssl` does with a real descriptor is inherited; from `Socket` come addresses, accepting and options. A context
makes it where `polyfill_socket` has put `sslsocket_class` in place; sockets of the machine still get the real class.
"""

from __future__ import annotations

import ssl
from typing import Any

from tcpip_wasm.compat.blocking.sockets import Socket


class SSLSocket(ssl.SSLSocket, Socket):  # type: ignore[misc]
    """A socket of a stack that speaks TLS."""

    @classmethod
    def _create(cls, sock: Any, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        kind: Any = super() if isinstance(sock, Socket) else ssl.SSLSocket
        made: ssl.SSLSocket = kind._create(sock, *arguments, **options)  # noqa: SLF001  what ssl.SSLContext.wrap_socket calls
        return made

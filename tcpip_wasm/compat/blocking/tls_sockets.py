"""`SSLSocket`: TLS over a `Socket`, by the standard library's own class, which reads and writes by descriptor.

Reading, writing and the handshake are inherited from `ssl`; addresses, accepting and options from `Socket`. Contexts
create it because `polyfill_socket` sets their `sslsocket_class`; sockets of the machine still get the real class.
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

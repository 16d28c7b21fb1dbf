"""Error codes of the ABI as exceptions."""

from __future__ import annotations

import errno
from typing import Final

from tcpip_wasm.engine import abi
from tcpip_wasm.errors import network_error

_ERRNO: Final = {
    abi.ERROR_BAD_HANDLE: errno.EBADF,
    abi.ERROR_NO_MEMORY: errno.ENOBUFS,
    abi.ERROR_NO_ROUTE: errno.ENETUNREACH,
    abi.ERROR_ADDRESS_IN_USE: errno.EADDRINUSE,
    abi.ERROR_ADDRESS_NOT_AVAILABLE: errno.EADDRNOTAVAIL,
    abi.ERROR_REFUSED: errno.ECONNREFUSED,
    abi.ERROR_RESET: errno.ECONNRESET,
    abi.ERROR_TIMED_OUT: errno.ETIMEDOUT,
    abi.ERROR_NOT_CONNECTED: errno.ENOTCONN,
    abi.ERROR_INVALID: errno.EINVAL,
    abi.ERROR_LIMIT: errno.ENOSPC,
    abi.ERROR_HOST_UNREACHABLE: errno.EHOSTUNREACH,
    abi.ERROR_NO_ROOM: errno.EAGAIN,
    abi.ERROR_NOT_PERMITTED: errno.EACCES,
    abi.ERROR_TOO_LONG: errno.EMSGSIZE,
    abi.ERROR_EXISTS: errno.EEXIST,
    abi.ERROR_NOT_FOUND: errno.ESRCH,
}


def error_for(code: int, detail: str = "") -> OSError:
    """Return the exception for an error code of the ABI."""
    return network_error(_ERRNO.get(code, errno.EIO), detail)

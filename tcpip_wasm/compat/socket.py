"""The standard `socket` module's names over a virtual host: ``from tcpip_wasm.compat import socket``.

A socket belongs to the host that is current when it is created, see `polyfill_socket` and `use`. Constants, conversions
and exceptions are the real module's, and so are `AF_UNIX` sockets, which use no network. The functions that the real
module has in Python are the standard library's own code, run with this module's global names.
"""

from __future__ import annotations

import errno as _errno
import os as _os
import select as _select
import socket as _real
from operator import index as _index
from types import FunctionType as _FunctionType
from typing import Any
from weakref import WeakKeyDictionary as _WeakKeyDictionary

from tcpip_wasm.compat.blocking import adapter_list as _adapter_list
from tcpip_wasm.compat.blocking.active_host import (
    current_host,
    current_route,
    is_lookup_of_own_loop,
    is_on_host_loop,
    leave,
    use,
)
from tcpip_wasm.compat.blocking.call_arguments import check_flow as _check_flow
from tcpip_wasm.compat.blocking.sockets import Socket
from tcpip_wasm.compat.route import ANY_ADDRESS as _ANY_ADDRESS
from tcpip_wasm.compat.route import host_text as _host_text
from tcpip_wasm.compat.route import literal as _literal
from tcpip_wasm.errors import NameResolutionError as _NameResolutionError
from tcpip_wasm.stack import NetworkStack as _NetworkStack

__all__ = [*_real.__all__, "leave", "use"]

globals().update({name: value for name, value in vars(_real).items() if name[:2] != "__"})

_machine = {name: getattr(_real, name) for name in dir(_real) if callable(getattr(_real, name)) and name[:1] != "_"}
"""The real module's functions, kept here before anything replaces them."""

_real_socketpair = _real.socketpair
_host_names: _WeakKeyDictionary[_NetworkStack, str] = _WeakKeyDictionary()
socket = Socket
SocketType = Socket


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002
    """Return the addresses of a host and port, as the current host knows them; see `NetworkStack.getaddrinfo`."""
    if is_lookup_of_own_loop():
        return _machine["getaddrinfo"](host, port, family, type, proto, flags)
    here, route = current_host(), current_route()
    if isinstance(port, str):
        port.encode()  # raises as the real one does
    if route is not None and not route.takes(_host_text(host) or _ANY_ADDRESS):
        return _machine["getaddrinfo"](host, port, family, type, proto, flags)
    try:
        found = here.call(here.stack.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags))
        if route is not None and host is not None and _literal(_host_text(host)) is None:
            for info in found:
                route.learn(info[4][0])
        return found
    except ValueError as error:  # programs expect the error of an unknown name for a malformed host
        raise _NameResolutionError(_real.EAI_NONAME, str(error)) from None


def getnameinfo(sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
    """Return the name and the service of a socket address; see `NetworkStack.getnameinfo`."""
    if is_lookup_of_own_loop():
        return _machine["getnameinfo"](sockaddr, flags)  # type: ignore[no-any-return]
    here = current_host()
    if isinstance(sockaddr, tuple):
        _check_flow("getnameinfo", sockaddr)
        route = current_route()
        if sockaddr and route is not None and not route.takes(_host_text(sockaddr[0])):
            return _machine["getnameinfo"](sockaddr, flags)  # type: ignore[no-any-return]
    try:
        return here.call(here.stack.getnameinfo(sockaddr, flags))
    except ValueError as error:
        raise _NameResolutionError(_real.EAI_NONAME, str(error)) from None


def gethostbyname(hostname: str) -> str:
    """Return the first IPv4 address of a name."""
    return str(gethostbyname_ex(hostname)[2][0])


def gethostbyname_ex(hostname: str) -> tuple[str, list[str], list[str]]:
    """Return a name's canonical one, an empty list, and its IPv4 addresses."""
    if is_on_host_loop():
        return _machine["gethostbyname_ex"](hostname)  # type: ignore[no-any-return]
    if hostname == "":
        return "", [], ["0.0.0.0"]
    if hostname == "<broadcast>":
        return hostname, [], ["255.255.255.255"]
    found = getaddrinfo(hostname, None, _real.AF_INET, _real.SOCK_STREAM, 0, _real.AI_CANONNAME)
    return found[0][3] or hostname, [], [info[4][0] for info in found]


def gethostbyaddr(ip_address: str) -> tuple[str, list[str], list[str]]:
    """Return the name of an address, an empty list, and the address.

    Raises:
        socket.herror: the address has no name.
    """
    if is_on_host_loop():
        return _machine["gethostbyaddr"](ip_address)  # type: ignore[no-any-return]
    address = getaddrinfo(ip_address, 0, 0, _real.SOCK_STREAM)[0][4]
    try:
        name = getnameinfo(address, _real.NI_NAMEREQD)[0]
    except _real.gaierror as error:
        raise _real.herror(1, f"Unknown host: {error}") from None
    return name, [], [address[0]]


def gethostname() -> str:
    """Return the current host's name: the one set by `sethostname`, else the name of one of its addresses in its hosts
    table, else ``localhost``."""
    if is_on_host_loop():
        return _machine["gethostname"]()  # type: ignore[no-any-return]
    here = current_host()
    given = _host_names.get(here.stack)
    if given is not None:
        return given

    async def own_name() -> str:
        own = [each.ip for interface in here.stack.interfaces for each in interface.addresses]
        names = [name for ip in own if not ip.is_loopback for name in here.stack.hosts.names_of(ip)]
        return str(names[0]) if names else "localhost"

    return here.call(own_name())


def sethostname(name: str | bytes) -> None:
    """Set the current host's name. The machine's name does not change."""
    if is_on_host_loop():
        raise OSError(_errno.EPERM, "sethostname() does not change the machine's name")
    _host_names[current_host().stack] = _os.fsdecode(name)


def if_nameindex() -> list[tuple[int, str]]:
    """Return numbers and names of the current host's interfaces."""
    if is_on_host_loop():
        return _machine["if_nameindex"]()  # type: ignore[no-any-return]
    here = current_host()

    async def interfaces() -> list[tuple[int, str]]:
        return [(interface.handle, interface.name) for interface in here.stack.interfaces]

    return here.call(interfaces())


def get_adapters(include_unconfigured: bool = False) -> list[Any]:
    """Return the current host's interfaces as ``ifaddr.get_adapters`` does those of the machine."""
    if is_on_host_loop() and _adapter_list.machine_get_adapters is not None:
        return _adapter_list.machine_get_adapters(include_unconfigured)  # type: ignore[no-any-return]
    here = current_host()

    async def adapters() -> list[Any]:
        return _adapter_list.adapters_of(here.stack, include_unconfigured)

    return here.call(adapters())


def if_nametoindex(if_name: str | bytes, /) -> int:
    """Return the number of an interface.

    Raises:
        OSError: no interface has that name.
    """
    if not isinstance(if_name, (str, bytes)):
        raise TypeError(f"an interface's name must be str or bytes, not {type(if_name).__name__}")
    for number, name in if_nameindex():
        if name == _os.fsdecode(if_name):
            return number
    raise OSError("no interface with this name")


def if_indextoname(if_index: int, /) -> str:
    """Return the name of an interface.

    Raises:
        OSError: ``ENXIO`` where no interface has that number.
    """
    if not 0 <= _index(if_index) < 2**32:
        raise OverflowError("an interface's number must be an unsigned 32-bit integer")
    for number, name in if_nameindex():
        if number == if_index:
            return name
    raise OSError(_errno.ENXIO, _os.strerror(_errno.ENXIO))


def socketpair(family: int | None = None, type: int = _real.SOCK_STREAM, proto: int = 0) -> tuple[Any, Any]:  # noqa: A002
    """Return two connected sockets: the machine's for ``AF_UNIX``, the default; others are connected over the stack's
    loopback.

    Raises:
        OSError: ``EOPNOTSUPP`` for another type than ``SOCK_STREAM`` over the stack; ``ECONNRESET`` where the process
            has no descriptors left for the second socket.
    """
    if family is None or family not in (_real.AF_INET, _real.AF_INET6):
        return _real_socketpair(family, type, proto)
    if type != _real.SOCK_STREAM:
        raise OSError(_errno.EOPNOTSUPP, "socketpair() over a stack supports SOCK_STREAM only")
    with Socket(family, type, proto) as listener:
        listener.bind(("127.0.0.1" if family == _real.AF_INET else "::1", 0))
        listener.listen(1)
        client = Socket(family, type, proto)
        try:
            client.connect(listener.getsockname())
            _wait_accepted(listener, client)
            server, address = listener.accept()
            if address != client.getsockname():
                server.close()
                raise ConnectionError("another socket connected to the listener of the pair")
        except BaseException:
            client.close()
            raise
    return server, client


def _wait_accepted(listener: Socket, client: Socket) -> None:
    """Wait until the listener has a connection to accept. Raises the client's error where it was reset instead."""
    poll = _select.poll()
    poll.register(listener.fileno(), _select.POLLIN)
    poll.register(client.fileno(), _select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll()}
    if listener.fileno() not in ready:
        client.recv(1)
        raise ConnectionResetError(_errno.ECONNRESET, "the listener of the pair has closed the connection")


def _over_the_stack(function: Any) -> Any:
    """Return a copy of a function of the real module whose global names are this module's."""
    copy = _FunctionType(function.__code__, globals(), function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__doc__ = function.__doc__
    return copy


create_connection: Any = _over_the_stack(_real.create_connection)
create_server: Any = _over_the_stack(_real.create_server)
has_dualstack_ipv6: Any = _over_the_stack(_real.has_dualstack_ipv6)
getfqdn: Any = _over_the_stack(_real.getfqdn)
fromfd: Any = _over_the_stack(_real.fromfd)

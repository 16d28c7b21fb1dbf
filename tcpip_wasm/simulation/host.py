"""`Host`: a machine of the network, with a name, network cards, and code that runs on it; it can crash and come back.

Owns the lives of a host: each has a stack of its own, and what runs on a host belongs to one life. Cards and names
outlive them.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any, TypeVar

from tcpip_wasm.errors import network_error
from tcpip_wasm.interfaces import Interface, Route, TapInterface
from tcpip_wasm.interfaces.interface_arguments import parse_addresses, parse_mtu
from tcpip_wasm.names.hostname import host_name
from tcpip_wasm.simulation.links.link import InterfaceEnd
from tcpip_wasm.simulation.names import HostNames
from tcpip_wasm.simulation.owners import OwnedHandlers
from tcpip_wasm.simulation.place import place
from tcpip_wasm.simulation.place import service as current_service
from tcpip_wasm.simulation.seeds import derive
from tcpip_wasm.stack import NetworkStack, create_stack

if TYPE_CHECKING:
    from tcpip_wasm.simulation.network import Network

T = TypeVar("T")
Service = Callable[..., Coroutine[Any, Any, Any]]


class Adapter(InterfaceEnd):
    """A network card of a host: the end of a link, which stays there while interfaces of the host come and go.

    Args:
        host: whose it is.
        number: counts from 0 on each host.
        addresses: the host's addresses there.
        mtu: bytes of the largest IP packet.

    Attributes:
        host: whose it is.
        name: such as ``web.tap0``.
        mac: its address; the same in all lives of the host.
        addresses: as given.
        linked: whether a link ends here.
    """

    def __init__(
        self, host: Host, life: Life, number: int, addresses: Sequence[IPv4Interface | IPv6Interface], mtu: int
    ) -> None:
        self.host = host
        self.name: str = f"{host.name}.tap{number}"
        self.mac: str = bytes((2, 0, 0, host.number >> 8 & 255, host.number & 255, number)).hex(":")
        self.addresses: tuple[IPv4Interface | IPv6Interface, ...] = tuple(addresses)
        self.mtu = mtu
        self.linked: bool = False
        super().__init__(self.make(life))

    def __repr__(self) -> str:
        return f"<Adapter {self.name} {', '.join(map(str, self.addresses)) or 'no address'}>"

    def make(self, life: Life) -> TapInterface:
        """Make the interface of a life of the host."""
        return _at_once(life.stack.create_tap_interface(mac=self.mac, ip=list(self.addresses), mtu=self.mtu))

    def plug(self, send: Callable[[bytes], None]) -> None:
        """Hand what leaves here to `send` from now on."""
        if self.linked:
            raise network_error(errno.EBUSY, f"{self.name} has a link already")
        self.linked = True
        super().plug(send)
        self._tell()

    def unplug(self) -> None:
        """Hand on nothing any more; the card stays, for another link. Idempotent."""
        self.linked = False
        self._send = None
        self._forget()
        self._tell()

    def attach(self, interface: Interface) -> None:
        """Attach to the interface of the next life."""
        super().attach(interface)
        self._tell()

    def _tell(self) -> None:
        if self.interface is not None:
            self.interface._dead_end = None if self.linked else f"{self.name} has no link"  # noqa: SLF001  for this package alone: interfaces are public

    gone = "crash"

    def receive(self, frame: bytes) -> str | None:
        """Take a frame from the link, unless a partition is between its sender and this host; return why not."""
        network = self.host.network
        if network.parted and network.parts(self.host, frame):
            return "partition"
        return super().receive(frame)


class Life:
    """One life of a host, from its start to its crash.

    Attributes:
        host: whose it is.
        stack: its stack.
        number: counts from 1.
        context: what runs on it begins with this context.
        ended: whether the host has crashed.
    """

    def __init__(self, host: Host, number: int, context: Context) -> None:
        self.host = host
        self.number = number
        self.context = context
        self.stack: NetworkStack
        self.ended = False
        self.services: list[asyncio.Task[Any]] = []


class Host:
    """A machine of the network; `Network.host` makes it.

    Attributes:
        network: what it is part of.
        name: its name, which other hosts resolve.
        number: counts from 1 in the order in which the network's hosts were made.
        adapters: its network cards; the first was made with it.
        hosts: names that this host knows beside those of the network.
    """

    def __init__(
        self, network: Network, name: str, number: int, addresses: Sequence[IPv4Interface | IPv6Interface], mtu: int
    ) -> None:
        self.network = network
        self.name = name
        self.number = number
        self.adapters: list[Adapter] = []
        self.hosts: HostNames = HostNames(network.names, name)
        self._services: list[tuple[Service, tuple[Any, ...]]] = []
        self._lives = 0
        self._life: Life | None = None
        self._kept: tuple[bool, list[Route]] = (False, [])
        life = self._begin()
        self.adapters.append(life.context.run(Adapter, self, life, 0, addresses, mtu))

    def __repr__(self) -> str:
        return f"<Host {self.name} {'up' if self.up else 'down'} {', '.join(map(str, self.addresses))}>"

    # --- What it is ---------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether it is running."""
        return self._life is not None

    @property
    def stack(self) -> NetworkStack:
        """The stack of the present life. What is set there (routes, forwarding) is kept by `restart`.

        Raises:
            OSError: ``EHOSTDOWN`` after a crash.
        """
        return self._alive().stack

    @property
    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The addresses of all cards, with their prefixes."""
        return tuple(address for adapter in self.adapters for address in adapter.addresses)

    @property
    def address(self) -> str:
        """The first address, as text, such as a program takes for a host.

        Raises:
            ValueError: it has none.
        """
        if not self.addresses:
            raise ValueError(f"{self.name} has no address")
        return str(self.addresses[0].ip)

    def _alive(self) -> Life:
        if self._life is None:
            raise network_error(errno.EHOSTDOWN, f"{self.name} has crashed")
        return self._life

    def interface(self, *addresses: str | IPv4Interface | IPv6Interface, mtu: int = 1500) -> Adapter:
        """Add a network card, to be given to `Network.link`; a router has several.

        Args:
            addresses: such as ``"10.1.0.1/24"``; at most one of them is IPv4.
            mtu: bytes of the largest IP packet.

        Raises:
            ValueError, TypeError: a malformed argument.
            OSError: ``EHOSTDOWN`` after a crash.
        """
        life = self._alive()
        parsed = self.network.free(parse_addresses(addresses))
        adapter = life.context.run(Adapter, self, life, len(self.adapters), parsed, parse_mtu(mtu, parsed))
        self.adapters.append(adapter)
        self.network.learn(self, adapter.addresses)
        return adapter

    # --- Running something on it --------------------------------------------------------------------------------------

    def run(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine on this host, as a task to await: asyncio's network functions use its stack inside.

        Args:
            coroutine: the program. Its context is a copy of the caller's.
            name: the task's name.

        Raises:
            TypeError: no coroutine.
            OSError: ``EHOSTDOWN`` after a crash.

        The task is cancelled when the host crashes.
        """
        if not asyncio.iscoroutine(coroutine):
            raise TypeError(f"coroutine must be a coroutine, such as main() makes, not {type(coroutine).__name__}")
        try:
            life = self._alive()
        except OSError:
            coroutine.close()
            raise
        context = copy_context()
        context.run(place.set, life)
        task = self.network.loop.create_task(coroutine, name=name, context=context)
        task.add_done_callback(self.network.ended)
        return task

    def start(self, service: Service, *arguments: Any) -> asyncio.Task[Any]:
        """Run a service on this host, now and after each `restart`.

        Connections, servers and tasks of a service may stay open when the run ends: they end with it, and are not
        counted as left open.

        Args:
            service: a coroutine function, which is called in each life. If it raises, the whole run ends with that.
            arguments: handed to it.

        Returns:
            The task of the present life.

        Raises:
            TypeError: no function.
            OSError: ``EHOSTDOWN`` after a crash.
        """
        if not callable(service):
            if asyncio.iscoroutine(service):
                service.close()
            raise TypeError(f"service must be a coroutine function (serve, not serve()), not {type(service).__name__}")
        life = self._alive()
        self._services.append((service, arguments))
        return self._serve(life, service, arguments)

    def _serve(self, life: Life, service: Service, arguments: tuple[Any, ...]) -> asyncio.Task[Any]:
        def make() -> asyncio.Task[Any]:
            return self.network.loop.create_task(service(*arguments), name=f"{self.name}/{_name_of(service)}")

        context = life.context.copy()
        context.run(current_service.set, object())
        driver = life.stack.interfaces[0].driver
        if not isinstance(driver.handlers, OwnedHandlers):
            driver.handlers = OwnedHandlers(driver.handlers)
        task = context.run(make)
        task.add_done_callback(self._served)
        life.services.append(task)
        return task

    def _served(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and getattr(task, "life", 0) is self._life:
            self.network.fail(error)

    # --- Lives --------------------------------------------------------------------------------------------------------

    def _begin(self) -> Life:
        self._lives += 1
        context = self.network.context.copy()
        life = Life(self, self._lives, context)
        context.run(place.set, life)
        context.run(self._boot, life)
        self._life = life
        return life

    def _boot(self, life: Life) -> None:
        # Each life draws other numbers: ports and sequence numbers of the one before may still be known to peers.
        seed = derive(self.network.seed, self.name, life.number).encode()
        stack = life.stack = _at_once(create_stack(seed=seed))
        stack.hosts = self.hosts
        stack.resolver.asks_itself = False
        names: dict[str, TapInterface] = {}
        for adapter in self.adapters:
            interface = adapter.make(life)
            adapter.attach(interface)
            names[interface.name] = interface
        stack.forwarding, routes = self._kept
        for route in routes:
            if (name := route.interface.name) in names:
                stack.add_route(route.network, via=route.via, interface=names[name], metric=route.metric)

    def crash(self) -> None:
        """Cut the host's power: from now on it sends nothing, not even FIN or RST, and frames to it vanish.

        Its tasks are cancelled, and its timers are gone; what a task does in `finally` finds no network. Without
        effect on a host that is down.
        """
        life = self._life
        if life is None:
            return
        self._life = None
        life.ended = True
        self.network.note(f"{self.name} crashed")
        self._kept = life.stack.forwarding, [route for route in life.stack.routes if not route.connected]
        for task in [one for one in self.network.loop.unfinished() if getattr(one, "life", None) == life]:
            task.cancel(f"{self.name} has crashed")
        self.network.loop.forget_timers(life)
        life.stack.abort(f"{self.name} has crashed")

    def restart(self) -> None:
        """Start the host again, with the same names, addresses, routes and services, and a new stack.

        A host that is up crashes first.
        """
        self.crash()
        self.network.note(f"{self.name} restarted")
        life = self._begin()
        for service, arguments in self._services:
            self._serve(life, service, arguments)

    def unfinished_services(self) -> list[asyncio.Task[Any]]:
        """Return the tasks of this life's services that are not done."""
        return [] if self._life is None else [task for task in self._life.services if not task.done()]

    def reset_connections_of_services(self) -> int:
        """Reset the connections that services of this life have opened or accepted, and return how many there were."""
        handlers = None if self._life is None else self._life.stack.interfaces[0].driver.handlers
        if not isinstance(handlers, OwnedHandlers):
            return 0
        connections: list[Any] = [one for one in handlers.owned() if getattr(one, "is_connection", False)]
        for connection in connections:
            connection.abort()
        return len(connections)

    def stop_services(self) -> list[asyncio.Task[Any]]:
        """Cancel the tasks of services, and start none any more; return those that have yet to end."""
        self._services.clear()
        tasks = self.unfinished_services()
        for task in tasks:
            task.cancel("the run is over")
        return tasks


def check_name(name: object) -> str:
    """Return a host's name as it is compared.

    Raises:
        TypeError, ValueError: it is no name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {type(name).__name__}")
    return host_name(name)


def _name_of(service: Service) -> str:
    return getattr(service, "__name__", None) or type(service).__name__


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("this waits for nothing")

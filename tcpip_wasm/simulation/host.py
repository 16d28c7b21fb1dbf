"""`Host`: a machine of the network, with a name, network cards, and code that runs on it; it can crash and restart.

Owns the incarnations of a host: one from each start to the next crash. Each has a stack of its own, and the tasks that
run on a host belong to one incarnation. Cards and names outlast them.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from functools import partial
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
    """A network card of a host: the end of a link, which stays when the host crashes and gets a new interface.

    Args:
        host: its host.
        number: counts from 0 on each host.
        addresses: the host's addresses on this card.
        mtu: bytes of the largest IP packet.

    Attributes:
        host: its host.
        name: such as ``web.tap0``.
        mac: its MAC address; it does not change when the host restarts.
        addresses: as given.
        linked: whether a link is plugged in.
    """

    def __init__(
        self,
        host: Host,
        incarnation: Incarnation,
        number: int,
        addresses: Sequence[IPv4Interface | IPv6Interface],
        mtu: int,
    ) -> None:
        self.host = host
        self.name: str = f"{host.name}.tap{number}"
        self.mac: str = bytes((2, 0, 0, host.number >> 8 & 255, host.number & 255, number)).hex(":")
        self.addresses: tuple[IPv4Interface | IPv6Interface, ...] = tuple(addresses)
        self.mtu = mtu
        self.linked: bool = False
        super().__init__(self.make(incarnation))

    def __repr__(self) -> str:
        return f"<Adapter {self.name} {', '.join(map(str, self.addresses)) or 'no address'}>"

    def make(self, incarnation: Incarnation) -> TapInterface:
        """Create the interface of an incarnation of the host."""
        return _run_without_waiting(
            incarnation.stack.create_tap_interface(mac=self.mac, ip=list(self.addresses), mtu=self.mtu)
        )

    def plug(self, send: Callable[[bytes], None]) -> None:
        """Pass frames that leave the card to `send` from now on."""
        if self.linked:
            raise network_error(errno.EBUSY, f"{self.name} has a link already")
        self.linked = True
        super().plug(send)
        self._update_link_state()

    def unplug(self) -> None:
        """Stop passing frames; the card can get another link. Idempotent."""
        self.linked = False
        self._send = None
        self._forget()
        self._update_link_state()

    def attach(self, interface: Interface) -> None:
        """Attach to the interface of the next incarnation."""
        super().attach(interface)
        self._update_link_state()

    def _update_link_state(self) -> None:
        if self.interface is not None:
            self.interface._dead_end = None if self.linked else f"{self.name} has no link"  # noqa: SLF001  for this package alone: interfaces are public

    gone = "crash"

    def receive(self, frame: bytes) -> str | None:
        """Receive a frame from the link; return why it is dropped, for one a partition, or None."""
        network = self.host.network
        if network.partitioned and network.separates(self.host, frame):
            return "partition"
        return super().receive(frame)


class Incarnation:
    """One incarnation of a host: from its start to its crash.

    Attributes:
        host: the host.
        stack: its stack.
        number: counts from 1.
        context: the context in which its tasks start.
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
    """A machine of the network; `Network.host` creates it.

    Attributes:
        network: its network.
        name: its name, which other hosts resolve.
        number: counts from 1 in the order in which the network's hosts were created.
        adapters: its network cards; the first is created with the host.
        hosts: its hosts table: names that this host resolves in addition to those of the network.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        number: int,
        addresses: Sequence[IPv4Interface | IPv6Interface],
        mtu: int,
        *,
        congestion_control: str = "cubic",
        ecn: bool = False,
    ) -> None:
        self.network = network
        self._make_stack = partial(create_stack, congestion_control=congestion_control, ecn=ecn)
        self.name = name
        self.number = number
        self.adapters: list[Adapter] = []
        self.hosts: HostNames = HostNames(network.names, name)
        self._services: list[tuple[Service, tuple[Any, ...]]] = []
        self._incarnations = 0
        self._incarnation: Incarnation | None = None
        self._saved: tuple[bool, list[Route]] = (False, [])
        incarnation = self._begin()
        self.adapters.append(incarnation.context.run(Adapter, self, incarnation, 0, addresses, mtu))

    def __repr__(self) -> str:
        return f"<Host {self.name} {'up' if self.up else 'down'} {', '.join(map(str, self.addresses))}>"

    # --- What it is ---------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether it is running."""
        return self._incarnation is not None

    @property
    def stack(self) -> NetworkStack:
        """The stack of the current incarnation. `restart` keeps its routes and its forwarding.

        Raises:
            OSError: ``EHOSTDOWN`` after a crash.
        """
        return self._current().stack

    @property
    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The addresses of all cards, with their prefixes."""
        return tuple(address for adapter in self.adapters for address in adapter.addresses)

    @property
    def address(self) -> str:
        """The first address, as text.

        Raises:
            ValueError: the host has no address.
        """
        if not self.addresses:
            raise ValueError(f"{self.name} has no address")
        return str(self.addresses[0].ip)

    def _current(self) -> Incarnation:
        if self._incarnation is None:
            raise network_error(errno.EHOSTDOWN, f"{self.name} has crashed")
        return self._incarnation

    def interface(self, *addresses: str | IPv4Interface | IPv6Interface, mtu: int = 1500) -> Adapter:
        """Add a network card, for `Network.link`; a router has several.

        Args:
            addresses: such as ``"10.1.0.1/24"``; at most one of them is IPv4.
            mtu: bytes of the largest IP packet.

        Raises:
            ValueError, TypeError: a malformed argument.
            OSError: ``EHOSTDOWN`` after a crash.
        """
        incarnation = self._current()
        parsed = self.network.check_free(parse_addresses(addresses))
        adapter = incarnation.context.run(
            Adapter, self, incarnation, len(self.adapters), parsed, parse_mtu(mtu, parsed)
        )
        self.adapters.append(adapter)
        self.network.add_names(self, adapter.addresses)
        return adapter

    # --- Running something on it --------------------------------------------------------------------------------------

    def run(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine on this host as a task, and return the task: in it, asyncio's functions use the host's stack.

        Args:
            coroutine: the program. Its context is a copy of the caller's.
            name: the task's name.

        Raises:
            TypeError: not a coroutine.
            OSError: ``EHOSTDOWN`` after a crash.

        The task is cancelled when the host crashes.
        """
        if not asyncio.iscoroutine(coroutine):
            raise TypeError(f"coroutine must be a coroutine, such as main() makes, not {type(coroutine).__name__}")
        try:
            incarnation = self._current()
        except OSError:
            coroutine.close()
            raise
        context = copy_context()
        context.run(place.set, incarnation)
        task = self.network.loop.create_task(coroutine, name=name, context=context)
        task.add_done_callback(self.network.on_task_done)
        return task

    def start(self, service: Service, *arguments: Any) -> asyncio.Task[Any]:
        """Run a service on this host, now and after each `restart`.

        Connections, servers and tasks of a service may stay open when the run ends: they end with it, and do not count
        as leaked.

        Args:
            service: a coroutine function, which is called at each start. If it raises, the run ends with its exception.
            arguments: passed to it.

        Returns:
            The task of the current incarnation.

        Raises:
            TypeError: not a function.
            OSError: ``EHOSTDOWN`` after a crash.
        """
        if not callable(service):
            if asyncio.iscoroutine(service):
                service.close()
            raise TypeError(f"service must be a coroutine function (serve, not serve()), not {type(service).__name__}")
        incarnation = self._current()
        self._services.append((service, arguments))
        return self._serve(incarnation, service, arguments)

    def _serve(self, incarnation: Incarnation, service: Service, arguments: tuple[Any, ...]) -> asyncio.Task[Any]:
        def make() -> asyncio.Task[Any]:
            return self.network.loop.create_task(service(*arguments), name=f"{self.name}/{_name_of(service)}")

        context = incarnation.context.copy()
        context.run(current_service.set, object())
        driver = incarnation.stack.interfaces[0].driver
        if not isinstance(driver.handlers, OwnedHandlers):
            driver.handlers = OwnedHandlers(driver.handlers)
        task = context.run(make)
        task.add_done_callback(self._on_service_done)
        incarnation.services.append(task)
        return task

    def _on_service_done(self, task: asyncio.Task[Any]) -> None:
        if (
            not task.cancelled()
            and (error := task.exception()) is not None
            and getattr(task, "incarnation", 0) is self._incarnation
        ):
            self.network.fail(error)

    # --- Incarnations -------------------------------------------------------------------------------------------------

    def _begin(self) -> Incarnation:
        self._incarnations += 1
        context = self.network.context.copy()
        incarnation = Incarnation(self, self._incarnations, context)
        context.run(place.set, incarnation)
        context.run(self._boot, incarnation)
        self._incarnation = incarnation
        return incarnation

    def _boot(self, incarnation: Incarnation) -> None:
        # Each incarnation has another seed: peers may still have ports and sequence numbers of the one before.
        seed = derive(self.network.seed, self.name, incarnation.number).encode()
        stack = incarnation.stack = _run_without_waiting(self._make_stack(seed=seed))
        stack.hosts = self.hosts
        stack.resolver.asks_itself = False
        names: dict[str, TapInterface] = {}
        for adapter in self.adapters:
            interface = adapter.make(incarnation)
            adapter.attach(interface)
            names[interface.name] = interface
        stack.forwarding, routes = self._saved
        for route in routes:
            if (name := route.interface.name) in names:
                stack.add_route(route.network, via=route.via, interface=names[name], metric=route.metric)

    def crash(self) -> None:
        """Stop the host at once: it sends nothing more, not even FIN or RST, and frames to it are dropped.

        Its tasks and timers are cancelled; network calls in a task's `finally` fail. Does nothing on a host that is
        down.
        """
        incarnation = self._incarnation
        if incarnation is None:
            return
        self._incarnation = None
        incarnation.ended = True
        self.network.note(f"{self.name} crashed")
        self._saved = incarnation.stack.forwarding, [route for route in incarnation.stack.routes if not route.connected]
        for task in [one for one in self.network.loop.unfinished() if getattr(one, "incarnation", None) == incarnation]:
            task.cancel(f"{self.name} has crashed")
        self.network.loop.forget_timers(incarnation)
        incarnation.stack.abort(f"{self.name} has crashed")

    def restart(self) -> None:
        """Start the host again, with the same names, addresses, routes and services, and a new stack.

        A host that is up crashes first.
        """
        self.crash()
        self.network.note(f"{self.name} restarted")
        incarnation = self._begin()
        for service, arguments in self._services:
            self._serve(incarnation, service, arguments)

    def unfinished_services(self) -> list[asyncio.Task[Any]]:
        """Return the tasks of the current incarnation's services that are not done."""
        return [] if self._incarnation is None else [task for task in self._incarnation.services if not task.done()]

    def reset_connections_of_services(self) -> int:
        """Reset the connections that the current services have opened or accepted, and return their number."""
        handlers = None if self._incarnation is None else self._incarnation.stack.interfaces[0].driver.handlers
        if not isinstance(handlers, OwnedHandlers):
            return 0
        connections: list[Any] = [one for one in handlers.owned() if getattr(one, "is_connection", False)]
        for connection in connections:
            connection.abort()
        return len(connections)

    def stop_services(self) -> list[asyncio.Task[Any]]:
        """Cancel the tasks of services, do not restart them, and return those that have not ended."""
        self._services.clear()
        tasks = self.unfinished_services()
        for task in tasks:
            task.cancel("the run is over")
        return tasks


def check_name(name: object) -> str:
    """Return a host's name in the form that is compared.

    Raises:
        TypeError, ValueError: not a valid name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {type(name).__name__}")
    return host_name(name)


def _name_of(service: Service) -> str:
    return getattr(service, "__name__", None) or type(service).__name__


def _run_without_waiting(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("the coroutine suspended")

"""`Network`: the hosts, links and switches of a simulation, its scheduled events, and the trace of its links.

Owns the topology and the schedule. Links, switches and hosts have modules of their own.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, copy_context
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from math import inf
from random import Random
from typing import Any, BinaryIO, Final, Literal
from warnings import warn

from tcpip_wasm.addresses import Address
from tcpip_wasm.capture import Event, Observation, Recorder, Trace
from tcpip_wasm.errors import network_error
from tcpip_wasm.interfaces.interface_arguments import MIN_MTU6, parse_addresses, parse_mtu
from tcpip_wasm.names import HostsTable
from tcpip_wasm.simulation.host import Adapter, Host, check_name
from tcpip_wasm.simulation.links.link import Link
from tcpip_wasm.simulation.links.loss import check_number
from tcpip_wasm.simulation.links.settings import LinkSettings
from tcpip_wasm.simulation.links.switch import DEFAULT_AGEING, DEFAULT_TABLE, Switch, SwitchPort
from tcpip_wasm.simulation.place import place
from tcpip_wasm.simulation.seeds import random_for
from tcpip_wasm.simulation.time.loop import VirtualLoop

Member = Host | str

MOST_HOSTS: Final = 0xFFFE
"""The host's number takes two bytes of a MAC address."""


class Network:
    """A network of hosts, on the running `VirtualLoop`; `run` creates one and passes it to the scenario.

    Args:
        seed: the seed of all random choices of links and hosts.
        trace: whether every frame is recorded; ``"digest"`` keeps only their hash, and no frames.

    Attributes:
        seed: as given.
        loop: the loop whose time it uses.
        names: the names that all hosts resolve: those of hosts, and those that are added here.
        hosts, links, switches: by name, in the order of creation.
        partitioned: whether a partition is in force.
        events: partitions, crashes and restarts of hosts, changes of links by their methods, and texts of `note`.

    Raises:
        TypeError: the seed is neither int nor text, or the running loop is not a `VirtualLoop`.
        RuntimeError: no loop is running.
    """

    def __init__(self, seed: int | str = 0, *, trace: bool | Literal["digest"] = True) -> None:
        if not isinstance(seed, (int, str)):
            raise TypeError(f"seed must be int or text, not {type(seed).__name__}")
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise TypeError(f"a network needs a VirtualLoop, and a {type(loop).__name__} is running; use run()")
        self.seed = seed
        self.loop = loop
        self.names: HostsTable = HostsTable()
        self.hosts: dict[str, Host] = {}
        self.links: dict[str, Link] = {}
        self.switches: dict[str, Switch] = {}
        self.partitioned: bool = False
        self.context: Context = copy_context()
        self.context.run(place.set, None)
        self.on_failure: Callable[[BaseException], None] | None = None
        self._trace = Trace(limit=0 if trace == "digest" else None, about=self)
        self.events: list[Event] = self._trace.events
        self._observers: list[Callable[[Observation], None]] = [self._trace.record] if trace else []
        self._recorders: list[Recorder] = []
        self._random: dict[str, Random] = {}
        self._names: dict[str, str] = {}  # of hosts, by address
        self._closed = False
        self._failed: list[asyncio.Task[Any]] = []
        self._groups: dict[str, int] = {}  # the group of each host that a partition names
        self._owners: dict[bytes, Host] = {}  # by MAC address, and by packed IP address

    @property
    def parted(self) -> bool:
        """Deprecated name of `partitioned`."""
        warn("Network.parted is now partitioned", DeprecationWarning, stacklevel=2)
        return self.partitioned

    def __repr__(self) -> str:
        return f"<Network seed {self.seed!r}, {len(self.hosts)} hosts, {len(self.links)} links>"

    # --- Topology -----------------------------------------------------------------------------------------------------

    def host(
        self,
        name: str,
        *addresses: str | IPv4Interface | IPv6Interface,
        mtu: int = 1500,
        congestion_control: str = "cubic",
        ecn: bool = False,
    ) -> Host:
        """Add a host.

        Args:
            name: its name; other hosts resolve it. ``db.lab`` is also ``db`` for hosts in the domain ``lab``.
            addresses: of its first network card, such as ``"10.0.0.1/24"``; at most one of them is IPv4. None takes
                the next of 10.0.0.0/8 and of fd00::/64, the latter not with an MTU below 1,280.
            mtu: bytes of the largest IP packet; with an IPv6 address, 1,280 at least.
            congestion_control, ecn: of the host's TCP, see `create_stack`.

        Raises:
            ValueError, TypeError: a malformed argument, or a name or address that is taken.
        """
        key = check_name(name)
        if key in self.hosts or key in self.switches:
            raise ValueError(f"name: {name!r} is taken")
        parse_mtu(mtu)
        number = len(self.hosts) + 1
        if number > MOST_HOSTS:
            raise ValueError(f"a network has at most {MOST_HOSTS} hosts")
        if addresses:
            parsed = parse_addresses(addresses)
            parse_mtu(mtu, parsed)
        else:
            parsed = [
                IPv4Interface((int(IPv4Address("10.0.0.0")) + number, 8)),
                *([IPv6Interface((int(IPv6Address("fd00::")) + number, 64))] if mtu >= MIN_MTU6 else []),
            ]
        own = self.check_free(parsed)
        host = Host(self, key, number, own, mtu, congestion_control=congestion_control, ecn=ecn)
        self.hosts[key] = host
        self.add_names(host, parsed)
        return host

    def switch(self, name: str, *, table: int = DEFAULT_TABLE, ageing: float = DEFAULT_AGEING) -> Switch:
        """Add a learning switch.

        Args:
            name: its name.
            table: size of its address table.
            ageing: seconds after which an address that was not seen is removed.

        Raises:
            ValueError, TypeError: a malformed argument, or a name that is taken.
        """
        key = check_name(name)
        if key in self.hosts or key in self.switches:
            raise ValueError(f"name: {name!r} is taken")
        made = self.switches[key] = Switch(key, table=table, ageing=ageing, loop=self.loop)
        return made

    def link(
        self,
        a: Member | Adapter | Switch,
        b: Member | Adapter | Switch,
        *,
        name: str | None = None,
        a_to_b: LinkSettings | None = None,
        b_to_a: LinkSettings | None = None,
        **settings: Any,
    ) -> Link:
        """Add a link between two hosts, two switches, or a host and a switch.

        Args:
            a, b: the ends, or their names: a host, by its first card, which must have no link; one of its cards
                (`Host.interface`); a switch.
            name: for traces; None joins the names of the ends.
            a_to_b, b_to_a: settings of one direction.
            settings: fields of `LinkSettings`, for directions without settings of their own.

        Raises:
            ValueError, TypeError: a malformed argument, or a name that is taken.
            OSError: ``EBUSY`` where the card has a link.
        """
        both = LinkSettings(**settings)
        if name is None:
            base = name = f"{_end_name(a)}-{_end_name(b)}"
            number = 1
            while name in self.links:
                number += 1
                name = f"{base}-{number}"
        elif not isinstance(name, str):
            raise TypeError(f"name must be text, not {type(name).__name__}")
        elif name in self.links:
            raise ValueError(f"name: {name!r} is taken")
        ends: list[Adapter | SwitchPort] = []
        options: dict[str, Any] = {"a_to_b": a_to_b, "b_to_a": b_to_a, "name": name, "seed": self.seed}
        options |= {"loop": self.loop, "observe": self.observe, "on_change": self.note}
        try:
            for one in (a, b):
                ends.append(self._end(one))
            link = self.context.copy().run(lambda: Link(ends[0], ends[1], both, **options))
        except BaseException:
            for end in ends:
                if isinstance(end, SwitchPort):
                    end.unplug()
            raise
        self.links[name] = link
        return link

    def _end(self, end: Member | Adapter | Switch) -> Adapter | SwitchPort:
        if isinstance(end, str) and end in self.switches:
            end = self.switches[end]
        if isinstance(end, Switch):
            if self.switches.get(end.name) is not end:
                raise ValueError(f"{end!r} is not of this network")
            return end.port()
        if isinstance(end, Adapter):
            self._host(end.host)
            return end
        host = self._host(end)
        if host.adapters[0].linked:
            raise network_error(
                errno.EBUSY, f"{host.name} has a link; another link needs another card, see Host.interface()"
            )
        return host.adapters[0]

    def check_free(self, addresses: Sequence[IPv4Interface | IPv6Interface]) -> Sequence[IPv4Interface | IPv6Interface]:
        """Return the addresses unchanged.

        Raises:
            ValueError: a host has one of them already.
        """
        for address in addresses:
            owner = self._owners.get(address.ip.packed)
            if owner is not None:
                raise ValueError(f"addresses: {address.ip} is an address of {owner.name}")
        return addresses

    def add_names(self, host: Host, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
        """Add addresses of a host to the names that all hosts resolve."""
        for address in addresses:
            self.names.add(address.ip, host.name)
            self._owners[address.ip.packed] = host
        for adapter in host.adapters:
            self._owners[bytes.fromhex(adapter.mac.replace(":", ""))] = host

    # --- Events -------------------------------------------------------------------------------------------------------

    def at(self, time: float, call: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
        """Call a function at a time, such as ``network.at(5.0, link.down)``.

        Args:
            time: virtual seconds since the run began.
            call: the function; it runs outside of all hosts. If it returns a coroutine, that runs as a task. An
                exception that it raises ends the run.
            arguments: passed to it.

        Returns:
            A handle that can be cancelled.

        Raises:
            ValueError: a time in the past, infinite or NaN.
            TypeError: the time is not a number, or `call` is not a function.
        """
        now = self.loop.time()
        _check_call(call)
        check_number("time", time, -inf, inf)
        if now - time > 1e-9:  # the clock counts nanoseconds; sums of floating point numbers are off by less
            raise ValueError(f"time: {time:g} s is past, it is {now:g} s since the run began; after() counts from now")
        return self.loop.call_at(time, self._call, call, arguments, context=self.context.copy())

    def after(self, delay: float, call: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
        """Call a function some virtual seconds from now; see `at`.

        Raises:
            ValueError: a delay that is negative, infinite or NaN.
            TypeError: the delay is not a number, or `call` is not a function.
        """
        _check_call(call)
        check_number("delay", delay, 0.0, inf)
        return self.at(self.loop.time() + delay, call, *arguments)

    def _call(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            result = call(*arguments)
        except Exception as error:
            self.fail(error)
            return
        if inspect.iscoroutine(result):
            self.loop.create_task(result).add_done_callback(self._on_call_done)

    def _on_call_done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the run with an exception of a callback or service, which no code awaits."""
        if self.on_failure is not None:
            self.on_failure(error)
        else:
            self.loop.call_exception_handler({"message": "a part of the simulation failed", "exception": error})

    def on_task_done(self, task: asyncio.Task[Any]) -> None:
        """Record a task that failed: it is reported at the end of the run unless its exception is retrieved."""
        if not task.cancelled() and _is_unretrieved(task):
            self._failed.append(task)

    def unretrieved_errors(self) -> list[BaseException]:
        """Return the exceptions of failed tasks that were not retrieved."""
        failed, self._failed = self._failed, []
        return [error for task in failed if _is_unretrieved(task) and (error := task.exception()) is not None]

    def partition(self, *groups: Member | Iterable[Member]) -> None:
        """Partition hosts: packets from a host of one group do not arrive at a host of another, also those under way.

        The sender of a packet is identified by its addresses, whatever switches and routers it passes. Hosts in no
        group still reach all hosts, also as routers; but with a single group, all other hosts are the second. Another
        call replaces the partition.

        Args:
            groups: hosts or their names; a group of one host need not be a list.

        Raises:
            ValueError: no such host, one in two groups, or no group.
        """
        side: dict[str, int] = {}
        members = [[group] if isinstance(group, (Host, str)) else list(group) for group in groups]
        if not members:
            raise ValueError("groups: no group of hosts")
        for number, group in enumerate(members):
            for member in group:
                host = self._host(member)
                if side.setdefault(host.name, number) != number:
                    raise ValueError(f"groups: {host.name} is in two of them")
        if len(members) == 1:
            side = {name: side.get(name, 1) for name in self.hosts}
        self._groups = side
        self.partitioned = True
        numbers = sorted(set(side.values()))
        self.note(
            f"partition: {' | '.join(' '.join(n for n, at in side.items() if at == number) for number in numbers)}"
        )

    def heal(self) -> None:
        """End the partition. Links that are down stay down."""
        if self.partitioned:
            self.note("healed")
        self.partitioned = False
        self._groups = {}

    def _host(self, member: Member) -> Host:
        if isinstance(member, Host):
            if self.hosts.get(member.name) is not member:
                raise ValueError(f"{member!r} is not of this network")
            return member
        if not isinstance(member, str):
            raise TypeError(f"expected a host or its name, not {type(member).__name__}")
        found = self.hosts.get(check_name(member))
        if found is None:
            raise ValueError(f"{member!r} is no host of this network")
        return found

    def separates(self, host: Host, frame: bytes) -> bool:
        """Whether the partition drops a frame that arrives at a host."""
        mine = self._groups.get(host.name)
        if mine is None:
            return False
        sender = self._sender(frame)
        return sender is not None and self._groups.get(sender.name, mine) != mine

    def _sender(self, frame: bytes) -> Host | None:
        kind = frame[12:14]
        source = frame[26:30] if kind == b"\x08\x00" else frame[22:38] if kind == b"\x86\xdd" else b""
        return self._owners.get(source) or self._owners.get(frame[6:12])

    # --- Observations ------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Record an event of the current time: in `events`, in the text of traces, and in captures.

        Args:
            text: a description, in one line.
        """
        if self._closed:
            return
        event = Event(self.loop.time(), text)
        self.events.append(event)
        for recorder in self._recorders:
            recorder.event(event)

    def name_of(self, address: str | Address) -> str | None:
        """Return the name of the host that has an address, also a link-local one; None where no host has it.

        Raises:
            ValueError: not an address.
        """
        text = str(address)
        found = self._names.get(text)
        if found is None:
            parsed = ip_address(text)
            packed = parsed.packed
            owner = self._owners.get(packed)
            if owner is None and isinstance(parsed, IPv6Address) and parsed.is_link_local:
                # RFC 4291, appendix A: the MAC address with two bytes inserted and one bit inverted
                owner = self._owners.get(bytes([packed[8] ^ 2]) + packed[9:11] + packed[13:])
            if owner is None:
                return None
            found = self._names[text] = owner.name
        return found

    def host_of(self, thing: object) -> str | None:
        """Return the name of a host, given the host or its name; None for another object."""
        if isinstance(thing, Host):
            return thing.name if self.hosts.get(thing.name) is thing else None
        return thing if isinstance(thing, str) and thing in self.hosts else None

    def points_of(self, thing: object) -> dict[str, bool] | None:
        """Return the names of the links of an object, each with whether the object is the link's first end.

        Args:
            thing: a host, a card of one, a switch, the name of a host or a switch; or a link, or its name.

        Returns:
            None if it is not part of the network.
        """
        if isinstance(thing, Link):
            thing = thing.name
        if isinstance(thing, str):
            if thing in self.links:
                return {thing: True}
            thing = self.hosts.get(thing) or self.switches.get(thing)
        if not isinstance(thing, (Host, Adapter, Switch)):
            return None
        found = {}
        for link in self.links.values():
            for end, first in ((link.b, False), (link.a, True)):
                if end is thing or getattr(end, "host", None) is thing or getattr(end, "switch", None) is thing:
                    found[link.name] = first
        return found

    def random(self, name: str) -> Random:
        """Return a random stream for the scenario, derived from the seed and a name.

        Its numbers do not depend on draws of other streams, links and hosts. The same name returns the same stream
        object, which continues.

        Args:
            name: such as ``"partitions"``.

        Raises:
            ValueError: a name with a slash, ``random`` or ``urandom``, which the network uses.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be text, not {type(name).__name__}")
        if "/" in name or name in ("random", "urandom"):
            raise ValueError(f"name: {name!r} is reserved for the network")
        return self._random.setdefault(name, random_for(self.seed, name))

    def observe(self, observation: Observation) -> None:
        """Record an observation of a link."""
        for observer in self._observers:
            observer(observation)

    def trace(self) -> Trace:
        """Return the trace of all links so far."""
        return self._trace

    def capture(
        self, file: str | os.PathLike[str] | BinaryIO, *links: Link | str, snaplen: int = 0, comment: str | None = None
    ) -> Recorder:
        """Write frames on links from now on into a pcapng file, until the recorder or the run is closed.

        Time stamps are virtual. Dropped frames are included, with a comment that says why, and when if that was later.
        So are the `events`, as journal records, which Wireshark lists between the frames.

        Args:
            file: a path, which is overwritten, or a file open for writing bytes.
            links: links or their names; none selects all, also those that are added later.
            snaplen: most bytes that are kept of each frame; 0 keeps all.
            comment: a comment on the whole capture.

        Raises:
            OSError: the file cannot be opened. A later write error ends the run.
            ValueError, TypeError: a malformed argument, or not a link of this network.
        """
        names = [link.name if isinstance(link, Link) else link for link in links]
        for name in names:
            if name not in self.links:
                raise ValueError(f"links: {name!r} is not a link of this network")
        recorder = Recorder(file, snaplen=snaplen, comment=comment, on_error=self.fail)
        for name in names or self.links:
            recorder.describe(name)
        wanted = frozenset(names)

        def record_selected(observation: Observation) -> None:
            if observation.point in wanted:
                recorder.record(observation)

        self._observers.append(record_selected if wanted else recorder.record)
        self._recorders.append(recorder)
        return recorder

    def close(self) -> None:
        """Close the files of captures, and crash all hosts; `run` calls it. Idempotent."""
        self._closed = True
        for host in self.hosts.values():
            host.crash()
        for recorder in self._recorders:
            recorder.close()


def _check_call(call: object) -> None:
    if asyncio.iscoroutine(call):
        call.close()
        raise TypeError("call must be a function (network.at(5, restart), not restart()), not a coroutine")
    if not callable(call):
        raise TypeError(f"call must be a function (network.at(5, host.crash), not host.crash()), not {call!r}")


def _is_unretrieved(task: asyncio.Task[Any]) -> bool:
    return bool(getattr(task, "_log_traceback", False))


def _end_name(end: Any) -> str:
    name = getattr(end, "name", end)
    if not isinstance(name, str):
        raise TypeError(f"a link connects hosts, their cards and switches, not {type(end).__name__}")
    return name

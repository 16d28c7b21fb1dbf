"""`Network`: hosts, links and switches, what happens to them at which time, and what was seen on the links.

Owns the topology and the schedule. Links and switches do their work in files of their own, hosts too.
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
"""Two bytes of a MAC are the host's number."""


class Network:
    """A network of hosts, on the running `VirtualLoop`; `run` makes one and hands it to the scenario.

    Args:
        seed: what all random choices of links and hosts derive from.
        trace: whether every frame is recorded; ``"digest"`` keeps only their hash, and no frames.

    Attributes:
        seed: as given.
        loop: whose time it is.
        names: what all hosts know: the names of hosts, and what is added here.
        hosts, links, switches: by name, in the order in which they were made.
        parted: whether a partition is in force.
        events: what has happened to it: partitions, crashes and restarts of hosts, changes of links by their methods,
            and what `note` was told.

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
        self.parted: bool = False
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
        self._side: dict[str, int] = {}  # of each host that a partition names
        self._owners: dict[bytes, Host] = {}  # by MAC, and by packed address

    def __repr__(self) -> str:
        return f"<Network seed {self.seed!r}, {len(self.hosts)} hosts, {len(self.links)} links>"

    # --- What it consists of ------------------------------------------------------------------------------------------

    def host(self, name: str, *addresses: str | IPv4Interface | IPv6Interface, mtu: int = 1500) -> Host:
        """Add a host.

        Args:
            name: its name; other hosts resolve it. Of ``db.lab``, hosts in the domain ``lab`` also know ``db``.
            addresses: of its first network card, such as ``"10.0.0.1/24"``; at most one of them is IPv4. None takes
                the next of 10.0.0.0/8 and of fd00::/64, the latter not with an MTU below 1,280.
            mtu: bytes of the largest IP packet; with an IPv6 address, 1,280 at least.

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
        host = Host(self, key, number, self.free(parsed), mtu)
        self.hosts[key] = host
        self.learn(host, parsed)
        return host

    def switch(self, name: str, *, table: int = DEFAULT_TABLE, ageing: float = DEFAULT_AGEING) -> Switch:
        """Add a learning switch.

        Args:
            name: its name.
            table: addresses that it remembers.
            ageing: seconds after which it forgets one.

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
        """Lay a link between two hosts, two switches, or a host and a switch.

        Args:
            a, b: the ends, or their names: a host, by its first card, which must be free; one of its cards
                (`Host.interface`); a switch.
            name: for traces; None makes one of the names of the ends.
            a_to_b, b_to_a: settings of one direction.
            settings: fields of `LinkSettings`, of the directions that are not given otherwise.

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
                errno.EBUSY, f"{host.name} has a link; a further one needs a card of its own, see Host.interface()"
            )
        return host.adapters[0]

    def free(self, addresses: Sequence[IPv4Interface | IPv6Interface]) -> Sequence[IPv4Interface | IPv6Interface]:
        """Return the addresses.

        Raises:
            ValueError: a host has one of them.
        """
        for address in addresses:
            owner = self._owners.get(address.ip.packed)
            if owner is not None:
                raise ValueError(f"addresses: {address.ip} is that of {owner.name}")
        return addresses

    def learn(self, host: Host, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
        """Let all hosts know further addresses of a host."""
        for address in addresses:
            self.names.add(address.ip, host.name)
            self._owners[address.ip.packed] = host
        for adapter in host.adapters:
            self._owners[bytes.fromhex(adapter.mac.replace(":", ""))] = host

    # --- What happens to it -------------------------------------------------------------------------------------------

    def at(self, time: float, call: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
        """Call something at a time, such as ``network.at(5.0, link.down)``.

        Args:
            time: virtual seconds since the run began.
            call: what to call, on no host. If it returns a coroutine, that runs as a task. If it raises, the run ends
                with that.
            arguments: handed to it.

        Returns:
            What can be cancelled.

        Raises:
            ValueError: a time in the past, infinite or not a number.
            TypeError: the time is no number, or what is to be called is no function.
        """
        now = self.loop.time()
        _check_call(call)
        check_number("time", time, -inf, inf)
        if now - time > 1e-9:  # the clock counts nanoseconds, sums of floating point numbers miss them
            raise ValueError(f"time: {time:g} s is past, it is {now:g} s since the run began; after() counts from now")
        return self.loop.call_at(time, self._call, call, arguments, context=self.context.copy())

    def after(self, delay: float, call: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
        """Call something some virtual seconds from now; see `at`.

        Raises:
            ValueError: a negative delay, an infinite one, or not a number.
            TypeError: the delay is no number, or what is to be called is no function.
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
            self.loop.create_task(result).add_done_callback(self._called)

    def _called(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the run with an error that nobody could catch."""
        if self.on_failure is not None:
            self.on_failure(error)
        else:
            self.loop.call_exception_handler({"message": "a part of the simulation failed", "exception": error})

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Remember a task that failed, until the end of the run: somebody may still await it."""
        if not task.cancelled() and _is_unheard(task):
            self._failed.append(task)

    def unheard(self) -> list[BaseException]:
        """Return the exceptions of tasks that nobody has awaited."""
        failed, self._failed = self._failed, []
        return [error for task in failed if _is_unheard(task) and (error := task.exception()) is not None]

    def partition(self, *groups: Member | Iterable[Member]) -> None:
        """Part hosts: what a host of one group sends never arrives at a host of another, what is under way included.

        Whoever has sent a packet is told by its addresses, so that switches and routers between make no difference.
        Hosts that no group names still reach everybody, and so do routers among them; but of a single group, all other
        hosts are the second. A further call takes the place of the one before.

        Args:
            groups: hosts or their names; a group of one need not be a list.

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
        self._side = side
        self.parted = True
        numbers = sorted(set(side.values()))
        self.note(f"parted: {' | '.join(' '.join(n for n, at in side.items() if at == number) for number in numbers)}")

    def heal(self) -> None:
        """End a partition. Links that are down stay so."""
        if self.parted:
            self.note("healed")
        self.parted = False
        self._side = {}

    def _host(self, member: Member) -> Host:
        if isinstance(member, Host):
            if self.hosts.get(member.name) is not member:
                raise ValueError(f"{member!r} is not of this network")
            return member
        if not isinstance(member, str):
            raise TypeError(f"a host or its name is wanted, not {type(member).__name__}")
        found = self.hosts.get(check_name(member))
        if found is None:
            raise ValueError(f"{member!r} is no host of this network")
        return found

    def parts(self, host: Host, frame: bytes) -> bool:
        """Whether a partition keeps a frame from arriving at a host."""
        mine = self._side.get(host.name)
        if mine is None:
            return False
        sender = self._sender(frame)
        return sender is not None and self._side.get(sender.name, mine) != mine

    def _sender(self, frame: bytes) -> Host | None:
        kind = frame[12:14]
        source = frame[26:30] if kind == b"\x08\x00" else frame[22:38] if kind == b"\x86\xdd" else b""
        return self._owners.get(source) or self._owners.get(frame[6:12])

    # --- What was seen ------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Record that something happens now: it is one of the `events`, and in the text of traces and in captures.

        Args:
            text: what happens, in one line.
        """
        if self._closed:
            return
        event = Event(self.loop.time(), text)
        self.events.append(event)
        for recorder in self._recorders:
            recorder.event(event)

    def name_of(self, address: str | Address) -> str | None:
        """Return the name of the host that has an address, link-local ones among them; None where nobody has it.

        Raises:
            ValueError: it is no address.
        """
        text = str(address)
        found = self._names.get(text)
        if found is None:
            parsed = ip_address(text)
            packed = parsed.packed
            owner = self._owners.get(packed)
            if owner is None and isinstance(parsed, IPv6Address) and parsed.is_link_local:
                # RFC 4291, appendix A: the MAC with two bytes in its middle and one bit turned over
                owner = self._owners.get(bytes([packed[8] ^ 2]) + packed[9:11] + packed[13:])
            if owner is None:
                return None
            found = self._names[text] = owner.name
        return found

    def host_of(self, thing: object) -> str | None:
        """Return the name of a host, given the host or its name; None for what is no host of this network."""
        if isinstance(thing, Host):
            return thing.name if self.hosts.get(thing.name) is thing else None
        return thing if isinstance(thing, str) and thing in self.hosts else None

    def points_of(self, thing: object) -> dict[str, bool] | None:
        """Return the names of the links that end at something, each with whether that is the link's first end.

        Args:
            thing: a host, a card of one, a switch, the name of a host or a switch; or a link, or its name.

        Returns:
            None if the network has no such thing.
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
        """Return a stream of random numbers of the scenario's own, which derives from the seed and a name.

        What other parts of the scenario draw, or links and hosts, changes nothing in it. The same name gives the same
        stream, which goes on where it stands.

        Args:
            name: such as ``"partitions"``.

        Raises:
            ValueError: a name with a slash, ``random`` or ``urandom``: these are the network's.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be text, not {type(name).__name__}")
        if "/" in name or name in ("random", "urandom"):
            raise ValueError(f"name: {name!r} is one of the network's own")
        return self._random.setdefault(name, random_for(self.seed, name))

    def observe(self, observation: Observation) -> None:
        """Record what a link has seen."""
        for observer in self._observers:
            observer(observation)

    def trace(self) -> Trace:
        """Return what was seen on all links so far."""
        return self._trace

    def capture(
        self, file: str | os.PathLike[str] | BinaryIO, *links: Link | str, snaplen: int = 0, comment: str | None = None
    ) -> Recorder:
        """Write what is seen on links from now on into a pcapng file, until the recorder or the run is closed.

        Time stamps are virtual. Frames that were dropped are there, with a comment that says why, and when if that was
        later; and so are the `events`, as records of a journal, which Wireshark lists between the frames.

        Args:
            file: a path, which is written anew, or a file open for writing bytes.
            links: links or their names; none means all, and those that are made later.
            snaplen: bytes that are kept of each frame at most; 0 keeps all.
            comment: what to say of the whole capture.

        Raises:
            OSError: the file cannot be opened. A file that can be written no more ends the run.
            ValueError, TypeError: a malformed argument, or no link of this network.
        """
        names = [link.name if isinstance(link, Link) else link for link in links]
        for name in names:
            if name not in self.links:
                raise ValueError(f"links: {name!r} is no link of this network")
        recorder = Recorder(file, snaplen=snaplen, comment=comment, on_error=self.fail)
        for name in names or self.links:
            recorder.describe(name)
        wanted = frozenset(names)

        def some(observation: Observation) -> None:
            if observation.point in wanted:
                recorder.record(observation)

        self._observers.append(some if wanted else recorder.record)
        self._recorders.append(recorder)
        return recorder

    def close(self) -> None:
        """Close what captures write, and cut the power of all hosts; `run` does it. Idempotent."""
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


def _is_unheard(task: asyncio.Task[Any]) -> bool:
    return bool(getattr(task, "_log_traceback", False))


def _end_name(end: Any) -> str:
    name = getattr(end, "name", end)
    if not isinstance(name, str):
        raise TypeError(f"a link ends in a host, a card of one, or a switch, not in {type(end).__name__}")
    return name

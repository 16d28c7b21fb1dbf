"""What a responder announces: its host's and its services' records, on each link, and under which names.

Owns the names, which change where another host has them. It knows no messages under way and no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tcpip_wasm.addresses import Address
from tcpip_wasm.services.mdns import records as make
from tcpip_wasm.services.mdns import wire
from tcpip_wasm.services.mdns.wire import Labels, Record

MAX_SERVICES: Final = 64
MAX_NUMBER: Final = 10_000


ServiceLike = make.MdnsService | tuple[Any, ...] | Mapping[str, Any]


class _Claimed:
    """A name that no other host may have."""

    def __init__(self, label: bytes, rest: Labels, *, host: bool) -> None:
        self._first = label
        self._number = 1
        self._host = host
        self.label = label
        self.rest = rest

    @property
    def name(self) -> Labels:
        return (self.label, *self.rest)

    def rename(self) -> None:
        self._number = self._number % MAX_NUMBER + 1
        self.label = make.numbered(self._first, self._number, host=self._host) if self._number > 1 else self._first


def _service(given: object) -> make.MdnsService:
    """Return a service that a caller gave as one, or as a tuple or mapping of its attributes.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(given, make.MdnsService):
        return given
    try:
        if isinstance(given, tuple):
            return make.MdnsService(*given)
        if isinstance(given, Mapping):
            return make.MdnsService(**given)
    except TypeError:
        pass
    raise TypeError(f"services: {given!r} is no MdnsService")


class Announced:
    """Names and records of a responder.

    Args:
        name: the host's name, without ``.local``.
        services: what it announces.

    Raises:
        ValueError, TypeError: a malformed name or service.
    """

    def __init__(self, name: str, services: Iterable[ServiceLike]) -> None:
        label = make.host_label(name)
        self._host = _Claimed(label, (make.LOCAL,), host=True)
        self._services: list[tuple[_Claimed, int, bytes]] = []
        for service in map(_service, services):
            kind = make.type_labels(service.type)
            instance = label if service.name is None else make.label_of("services: name", service.name)
            make.service_record((instance, *kind), (label, make.LOCAL), service.port)  # checks the port
            claimed = _Claimed(instance, kind, host=False)
            if any(wire.lower(claimed.name) == wire.lower(one.name) for one, *_ in self._services):
                raise ValueError(f"services: {make.text_of(claimed.name)} is there twice")
            self._services.append((claimed, service.port, make.encode_properties(service.properties)))
        if len(self._services) > MAX_SERVICES:
            raise ValueError(f"services: {len(self._services)} are more than {MAX_SERVICES}")
        self._kept: dict[tuple[Address, ...], list[Record]] = {}

    @property
    def host(self) -> Labels:
        """The host's name."""
        return self._host.name

    @property
    def instances(self) -> list[Labels]:
        """The names of the services."""
        return [claimed.name for claimed, *_ in self._services]

    @property
    def names(self) -> list[Labels]:
        """All names that no other host may have."""
        return [self.host, *self.instances]

    def rename(self, names: Iterable[Labels]) -> None:
        """Take other names in place of these, which are in lower case."""
        wanted = set(names)
        for claimed in (self._host, *(one for one, *_ in self._services)):
            if wire.lower(claimed.name) in wanted:
                claimed.rename()
        self._kept.clear()

    def records(self, addresses: Sequence[Address]) -> list[Record]:
        """Return all records on a link where the host has these addresses."""
        key = tuple(addresses)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) > 64:
                self._kept.clear()
            kept = self._kept[key] = self._make(key)
        return kept

    def _make(self, addresses: Sequence[Address]) -> list[Record]:
        host = self.host
        found = [make.address_record(host, address) for address in addresses]
        found += [make.pointer(make.reverse_name(one), host, make.HOST_TTL, unique=True) for one in addresses]
        kinds: dict[Labels, None] = {}
        for claimed, port, text in self._services:
            kinds[claimed.rest] = None
            found.append(make.pointer(claimed.rest, claimed.name))
            found.append(make.service_record(claimed.name, host, port))
            found.append(Record(claimed.name, wire.TXT, text, make.OTHER_TTL, True))
        return found + [make.pointer(make.ALL_TYPES, kind) for kind in kinds]

    def answers(self, question: wire.Question, addresses: Sequence[Address]) -> list[Record]:
        """Return the records for a question; for a type that a name has not, the record that denies it."""
        name = wire.lower(question.name)
        named = [one for one in self.records(addresses) if wire.lower(one.name) == name]
        found = [one for one in named if question.rdtype in (one.rdtype, wire.ANY)]
        if not found and name in [wire.lower(one) for one in self.names]:
            return [make.denial(named[0].name if named else question.name, {one.rdtype for one in named})]
        return found

    def additionals(self, answers: Sequence[Record], addresses: Sequence[Address]) -> list[Record]:
        """Return records that a client which gets these answers wants next (RFC 6763, section 12)."""
        wanted: set[Labels] = set()
        for record in answers:
            if record.rdtype == wire.PTR:
                target = wire.lower(wire.read_name(record.data))
                if target in [wire.lower(name) for name in self.instances]:
                    wanted |= {target, wire.lower(self.host)}
            elif record.rdtype in (wire.SRV, wire.A, wire.AAAA):
                wanted.add(wire.lower(self.host))
        kinds = (wire.SRV, wire.TXT, wire.A, wire.AAAA)
        return [
            one
            for one in self.records(addresses)
            if wire.lower(one.name) in wanted and one.rdtype in kinds and one not in answers
        ]

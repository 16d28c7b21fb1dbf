"""The records of a DNS server: which name has which, and how a name without any is denied.

Owns what a name means: wildcards (RFC 4592), names that exist only because others are below them (RFC 8020), aliases,
and the reverse names of addresses. It knows no messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from tcpip_wasm.services.dns import records as texts
from tcpip_wasm.services.dns import wire

Labels = tuple[bytes, ...]
Node = dict[int, list[wire.Record]]
"""Records of one name by type."""

MAX_CHAIN: Final = 16
"""Aliases from a name to its records."""

MAX_NAMES: Final = 1_000_000


@dataclass(slots=True)
class Found:
    """What a zone has for a question.

    Attributes:
        exists: whether the name exists.
        answers: its records, with the aliases that lead to them.
        alias: a name outside of the zone that the aliases lead to, or None.
        denial: the SOA for a negative answer.
    """

    exists: bool
    answers: list[wire.Record]
    alias: Labels | None = None
    denial: wire.Record | None = None


class Zone:
    """Records by name.

    Args:
        records: by name; ``"*.name"`` is for all names below that do not exist.
        ttl: seconds of the records, and of denials.
        origins: names below which no other server is asked.

    Raises:
        ValueError, TypeError: a malformed name or record.
    """

    def __init__(self, records: Mapping[str, texts.Records], *, ttl: int, origins: Iterable[str] = ()) -> None:
        self._nodes: dict[Labels, Node] = {}
        self._inner: set[Labels] = set()
        self._ttl = ttl
        self._origins = {texts.parse_name(origin) for origin in origins}
        if len(records) > MAX_NAMES:
            raise ValueError(f"records: {len(records):,} names are more than {MAX_NAMES:,}")
        reverse: dict[Labels, list[Labels]] = {}
        for name, given in records.items():
            labels = texts.parse_name(name)
            for record in texts.parse_records(given, ttl):
                self._add(labels, record)
                pointer = texts.reverse_name(record) if labels[:1] != (b"*",) else None
                if pointer is not None:
                    reverse.setdefault(pointer, []).append(labels)
        for labels, node in self._nodes.items():
            if wire.CNAME in node and (len(node) > 1 or len(node[wire.CNAME]) > 1):
                raise ValueError(f"records: {texts.name_text(labels)} has a CNAME beside others (RFC 1034, 3.6.2)")
        for pointer, names in reverse.items():
            if pointer not in self._nodes:
                for labels in dict.fromkeys(names):
                    self._add(pointer, wire.Record(b"", wire.PTR, ttl, wire.pack_name(labels)))
        for origin in self._origins:
            self._add_inner(origin)

    def __len__(self) -> int:
        return len(self._nodes)

    def _add(self, labels: Labels, record: wire.Record) -> None:
        node = self._nodes.setdefault(labels, {})
        same = node.setdefault(record.rdtype, [])
        if record not in same:
            same.append(record)
        self._add_inner(labels)

    def _add_inner(self, labels: Labels) -> None:
        while labels and labels not in self._inner:
            self._inner.add(labels)
            labels = labels[1:]

    # --- Looking up -----------------------------------------------------------------------------------------------

    def origin_of(self, labels: Labels) -> Labels | None:
        """Return the origin that a name is below, or None."""
        return next((labels[at:] for at in range(len(labels) + 1) if labels[at:] in self._origins), None)

    def find(self, labels: Labels, rdtype: int) -> Found:
        """Return what there is for a question."""
        answers: list[wire.Record] = []
        owner = b""  # the question's name
        seen: set[Labels] = set()
        while labels not in seen and len(seen) < MAX_CHAIN:
            seen.add(labels)
            node = self._node(labels)
            if node is None:
                break
            records = self._of_type(node, rdtype)
            if records or wire.CNAME not in node:
                answers += [replace(one, owner=owner) for one in records] if owner else records
                return Found(True, answers, None, None if answers else self.denial(labels))
            alias = node[wire.CNAME][0]
            answers.append(replace(alias, owner=owner) if owner else alias)
            owner = alias.data
            labels = _labels_of(owner)
        else:
            return Found(True, answers)  # a loop, or too many: the client sees the aliases
        if answers:  # an alias of a name that is not here
            return Found(True, answers, labels, None)
        return Found(False, [], None, self.denial(labels))

    def _of_type(self, node: Node, rdtype: int) -> list[wire.Record]:
        if rdtype == wire.ANY:  # one type is enough: RFC 8482, section 4.1
            return next(iter(node.values()), [])
        return node.get(rdtype, [])

    def _node(self, labels: Labels) -> Node | None:
        """Return the records of a name, perhaps none; None where it does not exist."""
        node = self._nodes.get(labels)
        if node is not None:
            return node
        if labels in self._inner:
            return {}
        for at in range(1, len(labels) + 1):
            encloser = labels[at:]
            if encloser in self._inner or not encloser:
                return self._nodes.get((b"*", *encloser))
        return None

    def denial(self, labels: Labels) -> wire.Record:
        """Return the SOA of the origin that a name is below, else of the name's parent."""
        origin = self.origin_of(labels)
        return texts.soa_of(labels[1:] if origin is None else origin, self._ttl)


def _labels_of(packed: bytes) -> Labels:
    labels, at = [], 0
    while packed[at]:
        labels.append(packed[at + 1 : at + 1 + packed[at]].lower())
        at += 1 + packed[at]
    return tuple(islice(labels, 128))

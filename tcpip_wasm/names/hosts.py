"""The hosts table: names and addresses that need no query.

A mapping from names to addresses that also reads files in the form of ``/etc/hosts``. It belongs to one stack, and
never looks at the files of the machine by itself.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path

from tcpip_wasm.addresses import Address, address_of
from tcpip_wasm.names.hostname import host_name, is_local

HostAddresses = str | Address | Iterable[str | Address]


class HostsTable(MutableMapping[str, tuple[Address, ...]]):
    """Names and their addresses: ``hosts["db"] = "10.0.0.5"``, or several addresses in a list.

    Case and a dot at the end make no difference. Names below ``localhost`` can only be loopback addresses (RFC 6761,
    section 6.3). Mistakes are `ValueError`s and `TypeError`s that name them.
    """

    def __init__(self) -> None:
        self._addresses: dict[str, tuple[Address, ...]] = {}
        self._canonical: dict[str, str] = {}
        self._reverse: dict[Address, dict[str, None]] = {}  # names in the order in which they came

    def __repr__(self) -> str:
        return f"<HostsTable of {len(self._addresses)} names>"

    def __getitem__(self, name: str) -> tuple[Address, ...]:
        return self._addresses[_key(name)]

    def __setitem__(self, name: str, addresses: HostAddresses) -> None:
        key, parsed = _key(name), _parse(addresses)
        _check_local(key, parsed)
        self._remove(key)
        self._add(key, key, parsed)

    def __delitem__(self, name: str) -> None:
        key = _key(name)
        if key not in self._addresses:
            raise KeyError(name)
        self._remove(key)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and _key(name) in self._addresses
        except ValueError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, address: str | Address, name: str, *aliases: str) -> None:
        """Add an address to those that a name has, as a line of a hosts file does.

        Args:
            address: text or an `ipaddress` object.
            name: the canonical name.
            aliases: further names of the same address.

        Raises:
            ValueError, TypeError: one of them is malformed; then nothing is added.
        """
        (parsed,) = _parse(address)
        keys = [_key(one) for one in (name, *aliases)]
        for key in keys:
            _check_local(key, (parsed,))
        for key in keys:
            self._add(key, keys[0], (parsed,))

    def canonical(self, name: str) -> str:
        """Return the canonical name of a name in the table.

        Raises:
            KeyError: it is not in the table.
        """
        return self._canonical[_key(name)]

    def names_of(self, address: str | Address) -> tuple[str, ...]:
        """Return the names that have an address, the one that was added first before the others."""
        (parsed,) = _parse(address)
        return tuple(self._reverse.get(parsed, ()))

    def load(self, source: str | os.PathLike[str]) -> int:
        """Add what stands in a file in the form of ``/etc/hosts``, and return how many lines had an address.

        Args:
            source: a path, or the text itself: a `str` with a line break is text, without one it is a path.

        Raises:
            ValueError: a malformed line, which the message names by file and number; then nothing is added.
            OSError: the file cannot be read.
        """
        if isinstance(source, str) and "\n" in source:
            where, text = "<text>", source
        else:
            where, text = os.fspath(source), Path(source).read_text(encoding="utf-8")
        read = HostsTable()
        entries: list[tuple[Address, list[str]]] = []
        for number, line in enumerate(text.splitlines(), 1):
            fields = line.partition("#")[0].split()
            if not fields:
                continue
            try:
                if len(fields) < 2:
                    raise ValueError("an address without a name")
                address = address_of("address", fields[0])
                read.add(address, *fields[1:])
            except ValueError as error:
                raise ValueError(f"{where}, line {number}: {error}") from None
            entries.append((address, fields[1:]))
        for address, names in entries:
            self.add(address, *names)
        return len(entries)

    def _add(self, key: str, canonical: str, addresses: tuple[Address, ...]) -> None:
        known = self._addresses.get(key, ())
        self._addresses[key] = known + tuple(a for a in dict.fromkeys(addresses) if a not in known)
        self._canonical.setdefault(key, canonical)
        for address in addresses:
            self._reverse.setdefault(address, {})[key] = None

    def _remove(self, key: str) -> None:
        for address in self._addresses.pop(key, ()):
            names = self._reverse[address]
            del names[key]
            if not names:
                del self._reverse[address]
        self._canonical.pop(key, None)


def _key(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {type(name).__name__}")
    return host_name(name)


def _parse(given: HostAddresses) -> tuple[Address, ...]:
    if isinstance(given, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return (address_of("address", given),)
    if isinstance(given, (bytes, int)) or not isinstance(given, Iterable):
        raise TypeError(f"addresses must be text, an ipaddress object or a list of them, not {type(given).__name__}")
    parsed = tuple(dict.fromkeys(address_of("address", one) for one in given))
    if not parsed:
        raise ValueError("addresses: a name without an address; delete it instead")
    return parsed


def _check_local(key: str, addresses: tuple[Address, ...]) -> None:
    if is_local(key) and not all(address.is_loopback for address in addresses):
        raise ValueError(f"name: {key!r} is always this host, {addresses[0]} is not (RFC 6761, section 6.3)")

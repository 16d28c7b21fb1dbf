"""Names of a network's hosts, as each host resolves them: its own table first, then the network's.

A short name is also looked up in the host's own domain, the part of the host's name after the first dot.
"""

from __future__ import annotations

from collections.abc import Iterator

from tcpip_wasm.addresses import Address
from tcpip_wasm.names import HostsTable
from tcpip_wasm.names.hostname import host_name


class HostNames(HostsTable):
    """The table of one host.

    Args:
        network: the names that all hosts know.
        name: the host's own name.
    """

    def __init__(self, network: HostsTable, name: str) -> None:
        super().__init__()
        self._network = network
        self._domain = name.partition(".")[2]

    def _known(self, name: str) -> tuple[HostsTable | None, str]:
        """Return the table that has a name, and the name in that table."""
        key = host_name(name)
        candidates = [key]
        if self._domain and "." not in key and not name.endswith("."):
            candidates.append(f"{key}.{self._domain}")
        for one in candidates:
            if super().__contains__(one):
                return None, one
            if one in self._network:
                return self._network, one
        raise KeyError(name)

    def __getitem__(self, name: str) -> tuple[Address, ...]:
        table, key = self._known(name)
        return super().__getitem__(key) if table is None else table[key]

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and bool(self._known(name))
        except (KeyError, ValueError):
            return False

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*super().__iter__(), *self._network])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def canonical(self, name: str) -> str:
        """Return the canonical name of a name, with the host's domain where it was found there.

        Raises:
            KeyError: no table has it.
        """
        table, key = self._known(name)
        return super().canonical(key) if table is None else table.canonical(key)

    def names_of(self, address: str | Address) -> tuple[str, ...]:
        """Return the names that have an address, the host's own table first."""
        return tuple(dict.fromkeys([*super().names_of(address), *self._network.names_of(address)]))

"""The calls of a core that concern bridges: which taps are ports of which, and what a bridge has learned."""

from __future__ import annotations

from tcpip_wasm.engine.calls import Calls


class BridgeCalls:
    """Calls on bridges of a core, by the handles of interfaces."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls.call

    def add_port(self, bridge: int, tap: int) -> None:
        """Make a tap a port of a bridge.

        Raises:
            OSError: ``EEXIST`` where it is a port already.
        """
        self._call("bridge_add_port", bridge, tap)

    def remove_port(self, bridge: int, tap: int) -> None:
        """Make a port an interface of its own again.

        Raises:
            OSError: ``ESRCH`` where it is no port of this bridge.
        """
        self._call("bridge_remove_port", bridge, tap)

    def set_ageing(self, bridge: int, seconds: int) -> None:
        """Forget an address from which no frame came for so many seconds; with 0 nothing is learned."""
        self._call("bridge_ageing", bridge, seconds)

    def learned(self, bridge: int) -> int:
        """Return how many addresses the bridge has learned."""
        return self._call("bridge_learned", bridge)

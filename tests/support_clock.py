"""Virtual time for tests of stacks, which need no network of hosts: the simulation's event loop alone."""

from tcpip_wasm.simulation import VirtualLoop, run_virtually

__all__ = ["VirtualLoop", "run_virtually"]

"""Former public names: they work, with a DeprecationWarning that has the new name."""

from __future__ import annotations

import threading

import pytest

from tcpip_wasm.compat import StackThread
from tcpip_wasm.simulation import Network, VirtualLoop, run


def test_names_of_virtual_hosts() -> None:
    called = threading.Event()
    with StackThread() as thread:
        with pytest.warns(DeprecationWarning, match="call_soon"):
            thread.tell(called.set)
        assert called.wait(60)
        with pytest.warns(DeprecationWarning, match="is_in_other_process"):
            assert not thread.is_elsewhere


def test_names_of_simulations() -> None:
    async def scenario(network: Network) -> None:
        assert isinstance(network.loop, VirtualLoop)
        with pytest.warns(DeprecationWarning, match="iterations"):
            assert network.loop.turns == network.loop.iterations > 0
        network.partition(network.host("a"))
        with pytest.warns(DeprecationWarning, match="partitioned"):
            assert network.parted is network.partitioned is True

    result = run(scenario)
    with pytest.warns(DeprecationWarning, match="leaked"):
        assert result.left_open == result.leaked == ()

"""Deterministic simulated networks: hosts, links and switches in virtual time.

    time     the event loop in virtual time, and the process's clocks
    links    links, queues, loss models, switches
    runs     `run`, the entry point; sweeps; reports of a run
    network  topology, schedules, partitions
    host     hosts, their network cards, crashes
    names    names of hosts
    seeds    derives every seed of a simulation
    place    context variables for the host and the service that code belongs to
    owners   records which service opened a socket
    errors   exceptions that end a run

The reasons are in docs/explanation/simulation.md.
"""

from tcpip_wasm.simulation.errors import DeadlockError, ScenarioError, SimulationError, TimeLimitError, network_of
from tcpip_wasm.simulation.host import Adapter, Host
from tcpip_wasm.simulation.links.channel import Channel, ChannelStatistics
from tcpip_wasm.simulation.links.link import InterfaceEnd, Link, LinkEnd
from tcpip_wasm.simulation.links.loss import GilbertElliott
from tcpip_wasm.simulation.links.queue import CoDel, DropTail
from tcpip_wasm.simulation.links.settings import LinkSettings
from tcpip_wasm.simulation.links.switch import Switch, SwitchPort
from tcpip_wasm.simulation.network import Network
from tcpip_wasm.simulation.place import current_host, current_stack
from tcpip_wasm.simulation.runs.log import LOG_FORMAT
from tcpip_wasm.simulation.runs.runner import Run, run
from tcpip_wasm.simulation.runs.sweep import SweepInterrupted, SweepReport, sweep
from tcpip_wasm.simulation.runs.trial import Trial
from tcpip_wasm.simulation.time.loop import VirtualLoop, run_virtually

__all__ = [
    "LOG_FORMAT",
    "Adapter",
    "Channel",
    "ChannelStatistics",
    "CoDel",
    "DeadlockError",
    "DropTail",
    "GilbertElliott",
    "Host",
    "InterfaceEnd",
    "Link",
    "LinkEnd",
    "LinkSettings",
    "Network",
    "Run",
    "ScenarioError",
    "SimulationError",
    "SweepInterrupted",
    "SweepReport",
    "Switch",
    "SwitchPort",
    "TimeLimitError",
    "Trial",
    "VirtualLoop",
    "current_host",
    "current_stack",
    "network_of",
    "run",
    "run_virtually",
    "sweep",
]

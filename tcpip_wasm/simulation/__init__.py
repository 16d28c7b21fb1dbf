"""Networks that repeat themselves: hosts, links and switches in virtual time.

    runner     a scenario from beginning to end: `run`, which is where to start
    sweep      a scenario under many seeds, in many processes
    trial      one of these seeds, where it runs
    progress   how far a sweep is, on a terminal
    command    ``tcpip-wasm sweep``
    network    topology, schedules, partitions
    host       hosts, their network cards, crashes
    loop       the event loop whose clock jumps
    clock      the process's clocks and random numbers, which follow it
    dates      `datetime.now`, which follows these clocks
    threads    which threads the loop has to wait for
    log        log records that know the virtual time and the host
    names      names of hosts
    current    on which host code runs, and for which service
    owners     which service has opened a socket
    waiting    what tasks wait for, in words
    leftovers  what a scenario has left open
    errors     what ends a run
    loss       loss models: independent, and in bursts
    queue      what waits for a transmitter: drop-tail and CoDel
    settings   what one direction of a link does to frames
    channel    one direction of a link
    link       two channels between two ends
    switch     learning switches

The reasons are in docs/explanation/simulation.md.
"""

from tcpip_wasm.simulation.channel import Channel, ChannelStatistics
from tcpip_wasm.simulation.current import current_host, current_stack
from tcpip_wasm.simulation.errors import DeadlockError, ScenarioError, SimulationError, TimeLimitError, network_of
from tcpip_wasm.simulation.host import Adapter, Host
from tcpip_wasm.simulation.link import InterfaceEnd, Link, LinkEnd
from tcpip_wasm.simulation.log import LOG_FORMAT
from tcpip_wasm.simulation.loop import VirtualLoop, run_virtually
from tcpip_wasm.simulation.loss import GilbertElliott
from tcpip_wasm.simulation.network import Network
from tcpip_wasm.simulation.queue import CoDel, DropTail
from tcpip_wasm.simulation.runner import Run, run
from tcpip_wasm.simulation.settings import LinkSettings
from tcpip_wasm.simulation.sweep import SweepInterrupted, SweepReport, sweep
from tcpip_wasm.simulation.switch import Switch, SwitchPort
from tcpip_wasm.simulation.trial import Trial

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

"""Captures: what passes interfaces and links, as pcapng files and as packets for a test.

    link_types    the numbers of link types
    observation   one frame that was seen, and what happened to it; events
    pcapng        writing pcapng files
    reading       reading pcapng and pcap files
    recorder      observations into a file
    decode, text  frames as objects, and as lines
    segments      which TCP segments were sent again
    trace         observations for a test, and their digest
    capture       what passes interfaces of stacks
    connections   TCP connections of a trace
    plotting      `plot`, a figure of one of them
    picture       how it is drawn

Nothing of it needs more than the standard library, but for `picture`, which needs matplotlib.

The reasons are in docs/explanation/captures.md.
"""

from tcpip_wasm.capture.capture import Capture, capture
from tcpip_wasm.capture.decode import Arp, Ethernet, Icmp, Ip, Packet, Tcp, Udp
from tcpip_wasm.capture.observation import Event, Observation
from tcpip_wasm.capture.pcapng import PcapngWriter
from tcpip_wasm.capture.plotting import plot
from tcpip_wasm.capture.reading import CapturedFrame, read_capture
from tcpip_wasm.capture.recorder import Recorder
from tcpip_wasm.capture.trace import Trace

__all__ = [
    "Arp",
    "Capture",
    "CapturedFrame",
    "Ethernet",
    "Event",
    "Icmp",
    "Ip",
    "Observation",
    "Packet",
    "PcapngWriter",
    "Recorder",
    "Tcp",
    "Trace",
    "Udp",
    "capture",
    "plot",
    "read_capture",
]

"""Captures of the frames on interfaces and links, as pcapng files and as packets for a test.

    link_types    the numbers of link types
    observation   one observed frame, and whether it was dropped; events
    pcapng        writing pcapng files
    reading       reading pcapng and pcap files
    recorder      writes observations into a file
    decode, text  frames as objects, and as lines
    segments      which TCP segments are retransmissions
    trace         observations for a test, and their digest
    capture       captures interfaces of stacks
    connections   TCP connections of a trace
    plotting      `plot`, which returns a figure of one of them
    picture       draws the figure

All of it needs the standard library only, except `picture`, which needs matplotlib.

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

"""Captures: what passes an interface or a link, as pcapng files and as packets for a test.

    link_types   the numbers of link types
    pcapng       writing pcapng files
    trace        observations, and their digest
"""

from tcpip_wasm.capture.pcapng import PcapngWriter
from tcpip_wasm.capture.trace import Observation, Trace

__all__ = ["Observation", "PcapngWriter", "Trace"]

"""TFTP (RFC 1350): files for hosts that boot.

    wire      packets and options
    transfer  one file to or from one client
    server    `TftpServer`

What may be read is decided by `services.folder`.
"""

from tcpip_wasm.services.tftp.server import TftpServer, TftpStatistics

__all__ = ["TftpServer", "TftpStatistics"]

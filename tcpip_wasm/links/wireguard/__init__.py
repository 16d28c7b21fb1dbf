"""WireGuard as a link of a tun. It needs the extra ``wireguard``, which is `cryptography`.

    wireguard_link     `WireGuard`: a tun, its peers and a socket
    sockets            the machine's UDP, or a stack's
    packets            the loops over packets: encrypt and decrypt in batches
    tunnel             all of WireGuard without sockets: handshakes, sessions, timers
    peer               the configuration and the state of a peer
    timers             the timers of a peer
    noise              the handshake's computations
    cookies            MACs, and cookies under load
    rate_limit         how many handshakes are processed
    replay             the window of message numbers
    allowed_addresses  which peer an address belongs to
    messages           layouts and constants
    keys               keys and their texts
    configuration      the files of `wg` and `wg-quick`
    command            ``tcpip-wasm wg``

The protocol is the one of "WireGuard: Next Generation Kernel Network Tunnel" (Donenfeld, NDSS 2017, and its revision of
2020), which is "the paper" here.
"""

from cryptography import __version__
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tcpip_wasm.links.wireguard.configuration import WireGuardConfiguration, read_wireguard_configuration
from tcpip_wasm.links.wireguard.peer import WireGuardPeer
from tcpip_wasm.links.wireguard.tunnel import TunnelCounters
from tcpip_wasm.links.wireguard.wireguard_link import WireGuard, WireGuardPeerStatus

__all__ = [
    "TunnelCounters",
    "WireGuard",
    "WireGuardConfiguration",
    "WireGuardPeer",
    "WireGuardPeerStatus",
    "read_wireguard_configuration",
]

if not hasattr(ChaCha20Poly1305, "encrypt_into"):
    raise ImportError(
        f"WireGuard needs cryptography 47 or later, not {__version__}: pip install 'tcpip-wasm[wireguard]'"
    )

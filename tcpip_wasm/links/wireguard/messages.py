"""The messages of WireGuard and its constants (protocol paper, sections 5.4 and 6.1).

Owns sizes and layouts. Integers are little-endian; a message begins with its type as a byte and three bytes of zeros,
which are read together. Must not know keys.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

INITIATION: Final = 1
RESPONSE: Final = 2
COOKIE: Final = 3
TRANSPORT: Final = 4

INITIATION_BYTES: Final = 148
RESPONSE_BYTES: Final = 92
COOKIE_BYTES: Final = 64
HEADER_BYTES: Final = 16
TAG_BYTES: Final = 16
OVERHEAD: Final = HEADER_BYTES + TAG_BYTES
"""Bytes that a message adds to a packet and its padding."""
PADDING: Final = 16
"""Packets are padded to multiples of it, but not beyond the MTU."""
MAC_BYTES: Final = 16

# type, sender, ephemeral, encrypted static, encrypted timestamp; mac1 and mac2 follow
INITIATION_LAYOUT: Final = Struct("<II32s48s28s")
# type, sender, receiver, ephemeral, encrypted nothing; mac1 and mac2 follow
RESPONSE_LAYOUT: Final = Struct("<III32s16s")
# type, receiver, nonce, encrypted cookie
COOKIE_LAYOUT: Final = Struct("<II24s32s")
# type, receiver, counter
HEADER: Final = Struct("<IIQ")
NONCE: Final = Struct("<4xQ")
TYPE: Final = Struct("<I")

SIZES: Final = {INITIATION: INITIATION_BYTES, RESPONSE: RESPONSE_BYTES, COOKIE: COOKIE_BYTES}

# Timers and limits, in seconds and messages (section 6.1; the names are the paper's).
REKEY_AFTER_MESSAGES: Final = 2**60
REJECT_AFTER_MESSAGES: Final = 2**64 - 2**13 - 1
REKEY_AFTER_TIME: Final = 120.0
REJECT_AFTER_TIME: Final = 180.0
REKEY_ATTEMPT_TIME: Final = 90.0
REKEY_TIMEOUT: Final = 5.0
KEEPALIVE_TIMEOUT: Final = 10.0
COOKIE_LIFETIME: Final = 120.0
JITTER: Final = 0.334
"""Added to the interval between initiations at most, so that two ends do not go on meeting each other."""
ERASE_AFTER: Final = REJECT_AFTER_TIME * 3
INITIATION_INTERVAL: Final = 0.02
"""Between two initiations of one peer that are answered."""

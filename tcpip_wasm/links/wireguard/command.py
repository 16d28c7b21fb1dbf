"""``tcpip-wasm wg``: makes keys, as `wg` of wireguard-tools does.

Owns the options and the output. Keys are read from the standard input, so that they are in no list of processes.
"""

from __future__ import annotations

import argparse
import os
import sys

from tcpip_wasm.links.wireguard.keys import KEY_BYTES, key_text, new_private_key, parse_key, public_key

__all__ = ["genkey", "genpsk", "pubkey"]


def genkey(_: argparse.Namespace) -> int:
    """Print a private key."""
    print(key_text(new_private_key()))
    return 0


def genpsk(_: argparse.Namespace) -> int:
    """Print a preshared key."""
    print(key_text(os.urandom(KEY_BYTES)))
    return 0


def pubkey(_: argparse.Namespace) -> int:
    """Read a private key and print its public key."""
    print(key_text(public_key(parse_key("standard input", sys.stdin.read()))))
    return 0

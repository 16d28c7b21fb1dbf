"""A lease table in a file, so that clients keep their addresses when the server starts again.

Owns the file's format: JSON, with the ends of leases as dates, since the loop's clock begins anew with each process. It
is replaced as a whole, so that a crash leaves the former one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from ipaddress import IPv4Address
from math import inf
from pathlib import Path

from tcpip_wasm.services.dhcp.table import DhcpLease

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of a file that is read."""


def write_leases(path: Path, leases: Iterable[DhcpLease], now: float) -> None:
    """Write leases to a file.

    Args:
        path: where to.
        leases: what to write.
        now: the loop's time.

    Raises:
        OSError: the file cannot be written.
    """
    date = time.time()
    entries = [
        {
            "address": str(lease.address),
            "mac": lease.mac,
            "identity": lease.identity.hex(),
            "hostname": lease.hostname,
            "expires": None if lease.expires == inf else date + lease.expires - now,
        }
        for lease in leases
    ]
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps({"version": 1, "leases": entries}, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def read_leases(path: Path, now: float) -> list[DhcpLease]:
    """Return the leases of a file that have not ended; none where there is no file.

    Raises:
        ValueError: it is no file of leases.
        OSError: it cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: too large for a file of leases")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    date = time.time()
    leases = []
    try:
        for entry in json.loads(text)["leases"]:
            expires = inf if entry["expires"] is None else now + float(entry["expires"]) - date
            name = entry["hostname"]
            lease = DhcpLease(
                IPv4Address(entry["address"]),
                str(entry["mac"]),
                None if name is None else str(name),
                expires,
                bytes.fromhex(entry["identity"]),
                now,
            )
            if lease.expires > now:
                leases.append(lease)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no file of leases: {error!r}") from None
    return leases

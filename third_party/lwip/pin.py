"""Writes the file list of `manifest.toml` from an unpacked lwIP release. Run by hand when lwIP is upgraded.

Owns: which C files of lwIP we use; the headers follow from their #include lines, whatever the options; and which
folders its unit tests need. Must not know where the release came from: its user checks that.

Program: ``python pin.py FOLDER``, FOLDER being the release's top folder. Everything in the manifest above its
[unit_tests] table is kept.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import fetch  # noqa: E402 - a program beside this one, found by the line above

UNIT_TESTS = ["src", "test/unit", "contrib/ports/unix"]

SOURCES = [
    "src/api/err.c",
    "src/core/def.c",
    "src/core/inet_chksum.c",
    "src/core/init.c",
    "src/core/ip.c",
    "src/core/mem.c",
    "src/core/memp.c",
    "src/core/netif.c",
    "src/core/pbuf.c",
    "src/core/raw.c",
    "src/core/stats.c",
    "src/core/sys.c",
    "src/core/tcp.c",
    "src/core/tcp_in.c",
    "src/core/tcp_out.c",
    "src/core/timeouts.c",
    "src/core/udp.c",
    "src/core/ipv4/etharp.c",
    "src/core/ipv4/icmp.c",
    "src/core/ipv4/igmp.c",
    "src/core/ipv4/ip4.c",
    "src/core/ipv4/ip4_addr.c",
    "src/core/ipv4/ip4_frag.c",
    "src/core/ipv6/ethip6.c",
    "src/core/ipv6/icmp6.c",
    "src/core/ipv6/inet6.c",
    "src/core/ipv6/ip6.c",
    "src/core/ipv6/ip6_addr.c",
    "src/core/ipv6/ip6_frag.c",
    "src/core/ipv6/mld6.c",
    "src/core/ipv6/nd6.c",
    "src/netif/ethernet.c",
]

INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def closure(release: Path) -> list[str]:
    """The C files, and every header of the release that they include, directly or not."""
    pending = list(SOURCES)
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        for include in INCLUDE.findall((release / name).read_bytes()):
            header = f"src/include/{include.decode()}"
            # Headers that are not in the release are the port's: lwipopts.h, arch/cc.h.
            if (release / header).is_file():
                pending.append(header)
    return sorted(found)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: pin.py FOLDER")
    release = Path(sys.argv[1])
    manifest = HERE / "manifest.toml"
    head = manifest.read_text(encoding="utf-8").partition("[unit_tests]\n")[0]
    everything = fetch.read_folder(release, lambda _: True)
    lines = ["[unit_tests]", "# Digests of the folders that lwIP's unit tests need (unit_tests.py)."]
    lines += [f'"{folder}" = "{fetch.digest_of(everything, folder)}"' for folder in UNIT_TESTS]
    lines += ["", "# SHA-256 of each file, before our patches.", "[files]"]
    names = closure(release)
    lines += [f'"{name}" = "{hashlib.sha256(everything[name]).hexdigest()}"' for name in names]
    manifest.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{manifest.name}: {len(names)} files")


if __name__ == "__main__":
    main()

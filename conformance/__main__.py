"""``python -m conformance``: run the suite on hosts, compare, or take new digests from one host.

python -m conformance                     wasmtime and Node
python -m conformance chromium pyodide    these; or all, by --all
python -m conformance --take              write digests.json from wasmtime, with the module that the package has
python -m conformance --scenario 'tcp/*'  some scenarios only
python -m conformance --module FILE       another build of the module
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

from conformance.check import different, shipped_module, unexpected, write_digests
from conformance.hosts import HOSTS, HostMissingError
from conformance.suite import load
from tcpip_wasm.engine.binary import MODULE_PATH


def main() -> int:
    """Run the command; return its exit status: 1 where a host differs, or is missing and required."""
    description = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(prog="python -m conformance", description=description)
    parser.add_argument("hosts", nargs="*", metavar="HOST", help=f"of {', '.join(HOSTS)}; wasmtime and node by default")
    parser.add_argument("--all", action="store_true", help="all hosts")
    parser.add_argument("--take", action="store_true", help="record wasmtime's digests")
    parser.add_argument("--scenario", default="*", help="pattern of the names of scenarios")
    parser.add_argument(
        "--module", type=Path, default=MODULE_PATH, help="the module, lwip.wasm of the package by default"
    )
    options = parser.parse_args()
    if unknown := set(options.hosts) - set(HOSTS):
        parser.error(f"no such host: {', '.join(sorted(unknown))}")
    if options.take and options.scenario != "*":
        parser.error("digests are taken of all scenarios")
    suite = load()
    suite["scenarios"] = {name: one for name, one in suite["scenarios"].items() if fnmatch(name, options.scenario)}
    binary = options.module.read_bytes()
    names = [] if options.take else list(HOSTS) if options.all else options.hosts or ["wasmtime", "node"]
    reference = None
    failed = False
    for name in ["wasmtime", *(name for name in names if name != "wasmtime")]:
        begin = time.monotonic()
        try:
            seen = HOSTS[name](suite, options.module)
        except HostMissingError as error:
            print(f"{name}: skipped: {error}")
            failed = failed or os.environ.get("TCPIP_WASM_REQUIRE_PEERS") == "1"
            continue
        reference = reference or seen
        found = unexpected(suite, seen)
        if options.take:
            write_digests(binary, seen)
            if hashlib.sha256(binary).hexdigest() != shipped_module():
                print("the module is not the one that ships: after `make release`, take them again")
        found += [line for line in different(binary, seen, reference) if fnmatch(line.split(":")[0], options.scenario)]
        if options.scenario != "*":
            found = [line for line in found if not line.endswith("recorded, and not run")]
        seconds = time.monotonic() - begin
        print(
            f"{name}: {len(seen)} scenarios, {'equal' if not found else f'{len(found)} differences'} ({seconds:.1f} s)"
        )
        for line in found:
            print(f"  {line}")
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

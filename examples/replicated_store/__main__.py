"""Runs seeds until a client reads a stale value, repeats that seed, shows why, and tests the repaired store.

    python -m examples.replicated_store [--first 0] [--last 299] [--capture stale-read.pcapng]

It exits with status 1 if no seed fails, if the seed does not repeat, or if the repaired store fails, too.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from examples.replicated_store.checker import Violation, check
from examples.replicated_store.scenario import Outcome, repaired_scenario, scenario
from examples.replicated_store.store import LEASE
from tcpip_wasm.capture import Packet
from tcpip_wasm.simulation import LOG_FORMAT, Network, Run, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.replicated_store")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--last", type=int, default=299, help="the last seed, if none fails before")
    parser.add_argument("--capture", type=Path, default=Path("stale-read.pcapng"), help="where to write the frames")
    options = parser.parse_args()

    seed = hunt(range(options.first, options.last + 1))
    result, again = repeat(seed), run(scenario, seed=seed)
    if result.digest != again.digest:
        sys.exit(f"seed {seed} has given two traces: {result.digest} and {again.digest}")
    print(f"trace {result.digest}, twice")
    result.network.trace().save(options.capture, comment=f"replicated_store, seed {seed}")
    print(f"{len(result.network.trace()):,} frames in {options.capture.name}")
    explain(result)
    for other in range(options.first, seed + 1):
        if check(run(repaired_scenario, seed=other, trace=False).value.history):
            sys.exit(f"the repaired store fails with seed {other}")
    print(f"\nthe repaired store passes seeds {options.first} to {seed}")


def hunt(seeds: range) -> int:
    """Return the first seed that fails."""
    for seed in seeds:
        if check(run(scenario, seed=seed, trace=False).value.history):
            print(f"seeds {seeds[0]} to {seed - 1} pass, seed {seed} does not")
            return seed
    sys.exit(f"seeds {seeds[0]} to {seeds[-1]} pass")


def repeat(seed: int) -> Run[Outcome]:
    """Run a seed again, with the log of the replicas."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    log = logging.getLogger("store")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        return run(scenario, seed=seed)
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


def explain(result: Run[Outcome]) -> None:
    """Print the first violation, and the packets that caused it."""
    violation = check(result.value.history)[0]
    print()
    for event in result.network.events:
        print(event)
    print(violation, end="\n\n")
    for packet in decisive(result.network, violation):
        print(describe(result.network, packet))


def decisive(network: Network, violation: Violation) -> Iterator[Packet]:
    """Yield the acknowledgements that gave the old primary a lease, and the contradicting answers."""
    newer, stale = violation.newer, violation.stale
    packets = network.trace().delivered().tcp(source_port=7000).where(lambda packet: packet.payload)
    late = {}
    seen = set()
    for packet in packets.at(stale.replica, outgoing=False).between(0, stale.end):
        message = json.loads(packet.payload.splitlines()[0])
        repeated = (packet.source, packet.payload) in seen
        seen.add((packet.source, packet.payload))
        if message["do"] == "ack" and packet.time - message["sent"] > LEASE and not repeated:
            late[packet.source] = packet  # only the last one of each is relevant
    yield from sorted(late.values(), key=lambda packet: packet.time)
    yield packets.at(newer.client, outgoing=False).between(newer.begin, newer.end + 1e-6)[-1]
    yield packets.at(stale.client, outgoing=False).between(stale.begin, stale.end + 1e-6)[-1]


def describe(network: Network, packet: Packet) -> str:
    """Return time, sender, receiver and content of a packet."""
    ends = [network.name_of(str(address)) for address in (packet.source, packet.destination)]
    return f"{packet.time:.6f} {ends[0]} > {ends[1]}: {packet.payload.splitlines()[0].decode()}"


if __name__ == "__main__":
    main()

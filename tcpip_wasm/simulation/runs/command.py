"""``tcpip-wasm sweep``: a scenario of a module under many seeds."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from pathlib import Path

from tcpip_wasm.simulation.runs.sweep import SweepInterrupted, sweep
from tcpip_wasm.simulation.runs.trial import Scenario, Trial


def sweep_command(options: argparse.Namespace) -> int:
    """Run a sweep, and return the exit status: 0, 1 if a seed failed, 130 after Ctrl-C.

    For the first failure it prints the traceback, and the command that repeats it.

    Raises:
        ValueError: the scenario does not exist, or a number is out of range.
    """
    scenario = find_scenario(options.scenario)
    seeds = range(options.first, options.first + options.seeds)

    def print_failure(trial: Trial) -> None:
        if trial.failed and not sys.stderr.isatty():  # on a terminal the sweep prints failures itself
            print(trial, flush=True)

    try:
        report = sweep(
            scenario,
            seeds,
            workers=options.workers,
            stop_after=options.stop_after,
            captures=options.captures,
            keep=options.keep,
            on_trial=print_failure,
        )
    except SweepInterrupted as interrupted:
        print(f"interrupted: {interrupted.report}", file=sys.stderr)
        return 130
    if report.failures:
        first = report.failures[0]
        print(first.traceback, end="")
        print(f"repeat   tcpip-wasm sweep {shlex.quote(options.scenario)} --first {first.seed} -n 1")
    print(report)
    return 1 if report.failed else 0


def find_scenario(text: str) -> Scenario:
    """Return the function that ``module:function`` names, also from a module in the current folder.

    Raises:
        ValueError: it does not exist.
    """
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise ValueError(f"{text!r}: a scenario is named as module:function")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"{text!r}: {error}") from error
    scenario = getattr(found, name, None)
    if not callable(scenario):
        raise ValueError(f"{text!r}: {module} has no function {name}")
    return scenario  # type: ignore[no-any-return]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("scenario", metavar="MODULE:FUNCTION", help="a coroutine function, which takes the network")
    parser.add_argument("-n", "--seeds", type=int, default=1000, metavar="N", help="how many; %(default)s")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first one; %(default)s")
    parser.add_argument("-j", "--workers", type=int, metavar="N", help="processes; one for each core")
    parser.add_argument("-x", "--stop-after", type=int, metavar="N", help="failures after which to stop; never")
    parser.add_argument("--keep", type=int, default=20, metavar="N", help="failures to capture; %(default)s")
    parser.add_argument(
        "--captures", type=Path, default=Path(".tcpip"), metavar="DIR", help="where to put them; %(default)s"
    )

"""A sweep on a Dask cluster of two local workers; prints seeds and digests. Dask leaves threads: hence a program."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any


def main(folder: str) -> None:
    """Run it, and put captures of failures into a folder."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    os.environ["PYTHONPATH"] = sys.path[0]
    dask: Any = importlib.import_module("dask")
    distributed: Any = importlib.import_module("distributed")

    from tcpip_wasm.simulation import sweep
    from tests.kit.scenarios import every_seventh

    dask.config.set({"distributed.worker.daemon": True})
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address=None, silence_logs="ERROR"
    )
    with cluster, distributed.Client(cluster) as client:
        processes = set(client.run(os.getpid).values())
        print("workers", len(processes - {os.getpid()}))
        with client.get_executor() as executor:
            report = sweep(
                every_seventh,
                30,
                executor,
                captures=folder,
                on_trial=lambda trial: print(trial.seed, trial.digest),
            )
        if not all(trial.repeats for trial in report.failures):
            raise SystemExit("a failure did not repeat")
        print(report)


if __name__ == "__main__":
    main(sys.argv[1])

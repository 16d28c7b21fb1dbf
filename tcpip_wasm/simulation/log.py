"""Records of `logging` that know the virtual time and the host.

Owns the factory that is in place while a simulation runs. Each record gets two attributes: ``virtual_time``, seconds
since the run began, and ``host``, the name of the host or ``-``. `LOG_FORMAT` shows both. ``asctime`` is virtual, too,
where the process's clocks follow the simulation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tcpip_wasm.simulation.loop import VirtualLoop
from tcpip_wasm.simulation.waiting import place_name

LOG_FORMAT: Final = "%(virtual_time)13.6f %(host)-12s %(levelname)-7s %(name)s: %(message)s"
"""A format for `logging.Formatter`; of use only for records that were made while a simulation ran."""


@contextmanager
def label(loop: VirtualLoop, level: int | str | None = None) -> Iterator[None]:
    """Let records say the virtual time and the host, in a ``with`` block.

    Args:
        loop: whose time it is.
        level: also write records of at least this level to the standard error output, in `LOG_FORMAT`; None does not.
    """
    before = logging.getLogRecordFactory()

    def factory(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = before(*arguments, **options)
        record.virtual_time = loop.time()
        record.host = place_name()
        return record

    root = logging.getLogger()
    handler = None
    root_level = root.level
    if level is not None:
        handler = logging.StreamHandler()
        handler.setLevel(level)
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.setLogRecordFactory(factory)
    try:
        if handler is not None:
            root.addHandler(handler)
            root.setLevel(min(root_level or handler.level, handler.level))
        yield
    finally:
        if handler is not None:
            root.removeHandler(handler)
            root.setLevel(root_level)
        if logging.getLogRecordFactory() is factory:
            logging.setLogRecordFactory(before)

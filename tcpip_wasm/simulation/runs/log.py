"""Records of `logging` that know the virtual time and the host.

Owns the factory that is in place while a simulation runs. Each record gets two attributes: ``virtual_time``, seconds
since the run began, and ``host``, the name of the host or ``-``. `LOG_FORMAT` shows both. ``asctime`` is virtual, too,
where the process's clocks follow the simulation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from math import nan
from typing import Any, Final, TextIO

from tcpip_wasm.simulation.runs.task_dump import place_name
from tcpip_wasm.simulation.time.loop import VirtualLoop


class _Format(str):
    """A format that also takes records without a virtual time and a host."""

    def __mod__(self, values: Any, /) -> str:
        return super().__mod__({"virtual_time": nan, "host": "-", **values})


LOG_FORMAT: Final = _Format("%(virtual_time)13.6f %(host)-12s %(levelname)-7s %(name)s: %(message)s")
"""A format for `logging.Formatter`. Of a record that was made while no simulation ran, it says the time ``nan``."""

Log = int | str | TextIO | logging.Handler
"""A level, from which on records go to the standard error output; a stream for records from INFO on; or a handler,
which gets what its level lets pass, in its own format if it has one."""


@contextmanager
def label(loop: VirtualLoop, log: Log | None = None) -> Iterator[None]:
    """Let records say the virtual time and the host, in a ``with`` block.

    Args:
        loop: whose time it is.
        log: where to write records to in addition, in `LOG_FORMAT`; None writes them nowhere.

    Raises:
        ValueError, TypeError: no such level.
    """
    before = logging.getLogRecordFactory()

    def factory(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = before(*arguments, **options)
        record.virtual_time = loop.time()
        record.host = place_name()
        return record

    root = logging.getLogger()
    root_level = root.level
    handler = None if log is None else _handler(log)
    bare = handler is not None and handler.formatter is None
    if handler is not None and bare:
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
            if bare:
                handler.setFormatter(None)
        if logging.getLogRecordFactory() is factory:
            logging.setLogRecordFactory(before)


def _handler(log: Log) -> logging.Handler:
    if isinstance(log, logging.Handler):
        return log
    handler = logging.StreamHandler(None if isinstance(log, (int, str)) else log)
    handler.setLevel(log if isinstance(log, (int, str)) else logging.INFO)
    return handler

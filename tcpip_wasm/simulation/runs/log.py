"""Records of `logging` with the virtual time and the host.

Owns the record factory that is installed while a simulation runs. Each record gets two attributes: ``virtual_time``,
seconds since the run began, and ``host``, the name of the host or ``-``. `LOG_FORMAT` shows both. ``asctime`` is
virtual, too, where the process's clocks follow the simulation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from math import nan
from typing import Any, Final, TextIO

from tcpip_wasm.simulation.runs.task_dump import current_host_name
from tcpip_wasm.simulation.time.loop import VirtualLoop


class _Format(str):
    """A format that also accepts records without a virtual time and a host."""

    def __mod__(self, values: Any, /) -> str:
        return super().__mod__({"virtual_time": nan, "host": "-", **values})


LOG_FORMAT: Final = _Format("%(virtual_time)13.6f %(host)-12s %(levelname)-7s %(name)s: %(message)s")
"""A format for `logging.Formatter`. The time of a record that was created while no simulation ran is ``nan``."""

Log = int | str | TextIO | logging.Handler
"""A level, from which on records are written to the standard error output; a stream for records from INFO on; or a
handler, with its own level, and its own format if it has one."""


@contextmanager
def label(loop: VirtualLoop, log: Log | None = None) -> Iterator[None]:
    """Add the virtual time and the host to log records, in a ``with`` block.

    Args:
        loop: the loop whose time it uses.
        log: where records are also written, in `LOG_FORMAT`; None adds no handler.

    Raises:
        ValueError, TypeError: not a level.
    """
    before = logging.getLogRecordFactory()

    def factory(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = before(*arguments, **options)
        record.virtual_time = loop.time()
        record.host = current_host_name()
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

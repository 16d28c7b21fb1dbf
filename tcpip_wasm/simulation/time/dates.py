"""`datetime.datetime` that follows `time.time`, so that ``datetime.now()`` is virtual where the process's clocks are.

`datetime.now` and `utcnow` read the system's clock in C; `datetime.today` and `date.today` call `time.time`. Since
methods of a class in C cannot be replaced, the class is: in the module `datetime`, and in every module that has it
under any name at module level (``from datetime import datetime``). The replacement never has instances: it creates
plain `datetime.datetime` objects, so that the results of a run have the real type. For `isinstance`, `issubclass`,
comparisons and as a key it is equal to the real class.

The following keep the real class, and with it the real time: class attributes, defaults of parameters and containers
that were created before, bound methods (``now = datetime.now``), and extension modules in C or Rust. Where another
library has replaced the class already, nothing is changed.

The reasons are in docs/explanation/simulation.md.
"""

from __future__ import annotations

import copyreg
import datetime
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

_Real = datetime.datetime
_EXCLUDED: Final = (__name__, "_datetime", "_pydatetime")
"""Modules that keep the real class."""


class _RealClassMeta(type):
    """The metaclass of `VirtualDatetime`; classes that are derived from that behave normally."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Real) if cls is VirtualDatetime else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Real) if cls is VirtualDatetime else super().__subclasscheck__(subclass)

    def __eq__(cls, other: object) -> bool:
        return other is cls or (cls is VirtualDatetime and other is _Real)

    def __hash__(cls) -> int:
        return hash(_Real) if cls is VirtualDatetime else super().__hash__()


class VirtualDatetime(_Real, metaclass=_RealClassMeta):
    """Replaces `datetime.datetime` while the clocks are virtual. It also works after that: it calls `time.time`."""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        """Return a plain `datetime.datetime`; a class that is derived from this one creates its own instances."""
        return _Real.__new__(_Real if cls is VirtualDatetime else cls, *arguments, **options)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        """Return the time of `time.time`, see `datetime.datetime.now`."""
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        """Return the time of `time.time`, see `datetime.datetime.utcnow`."""
        if sys.version_info >= (3, 12):
            text = "datetime.datetime.utcnow() is deprecated: use datetime.datetime.now(datetime.UTC)"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        """Return the time of `time.time`, see `datetime.datetime.today`."""
        return cls.fromtimestamp(time.time())


VirtualDatetime.__module__, VirtualDatetime.__name__, VirtualDatetime.__qualname__ = "datetime", "datetime", "datetime"


class _Holders:
    """The names under which modules have the class: each module is searched once, ``__main__`` every time."""

    def __init__(self) -> None:
        self._scanned: dict[str, Any] = {}
        self._names: dict[str, list[str]] = {}

    def find(self) -> list[tuple[dict[str, Any], str]]:
        """Return the dictionary of each module that has the class, real or virtual, and the name."""
        scanned, modules = self._scanned, sys.modules
        if scanned != modules:  # compared in C, by identity of the entries
            for name in [name for name, module in list(modules.items()) if scanned.get(name) is not module]:
                self._scan(name)
            for name in scanned.keys() - modules.keys():
                del scanned[name]
                self._names.pop(name, None)
        self._scan("__main__")  # a notebook's cells add names
        return [(modules[name].__dict__, key) for name, keys in self._names.items() if name in modules for key in keys]

    def _scan(self, name: str) -> None:
        module = sys.modules.get(name)
        held = []
        # Modules of other types may load themselves when an attribute is read.
        if type(module) is ModuleType and name not in _EXCLUDED:
            held = [key for key, one in list(module.__dict__.items()) if one is _Real or one is VirtualDatetime]
        if held:
            self._names[name] = held
        else:
            self._names.pop(name, None)
        if not getattr(getattr(module, "__spec__", None), "_initializing", False):  # else it gets more names later
            self._scanned[name] = module


_holders: Final = _Holders()


@contextmanager
def follow_dates() -> Iterator[None]:
    """Let `datetime.datetime` follow `time.time`, in a ``with`` block."""
    if datetime.datetime is not _Real or _Real in copyreg.dispatch_table:  # another library has replaced it
        yield
        return
    for contents, name in _holders.find():
        if contents.get(name) is _Real:
            contents[name] = VirtualDatetime
    # pickle writes a class's name, and checks that the name leads to the class.
    copyreg.dispatch_table[_Real] = _reduce
    try:
        yield
    finally:
        del copyreg.dispatch_table[_Real]
        for contents, name in _holders.find():  # includes modules that were imported during the run
            if contents.get(name) is VirtualDatetime:
                contents[name] = _Real


def _reduce(value: datetime.datetime) -> tuple[Any, ...]:
    return VirtualDatetime, *value.__reduce_ex__(2)[1:]

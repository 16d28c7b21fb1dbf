"""`datetime.datetime` that follows `time.time`, so that ``datetime.now()`` is virtual where the process's clocks are.

`datetime.now` and `utcnow` ask the system by C; `datetime.today` and `date.today` call `time.time`. Since nothing can
be set on a class in C, the name is replaced: in the module `datetime`, and in every module that holds the class under
some name at module level (``from datetime import datetime``). Nothing is ever an instance of the class that stands
there meanwhile: it makes plain `datetime.datetime` objects, so that whatever a run hands out is what it would be
without. For `isinstance`, `issubclass`, comparisons and as a key it is the real class.

What keeps the real class, and with it the real time: class attributes, defaults of parameters and containers that were
filled before, bound methods taken before (``now = datetime.now``), and extension modules in C or Rust. Where another
library has replaced the class already, nothing is done.

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
_LEFT_ALONE: Final = (__name__, "_datetime", "_pydatetime")
"""Modules that keep the real class."""


class _LooksReal(type):
    """The type of `VirtualDatetime`, but not of what is derived from it."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Real) if cls is VirtualDatetime else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Real) if cls is VirtualDatetime else super().__subclasscheck__(subclass)

    def __eq__(cls, other: object) -> bool:
        return other is cls or (cls is VirtualDatetime and other is _Real)

    def __hash__(cls) -> int:
        return hash(_Real) if cls is VirtualDatetime else super().__hash__()


class VirtualDatetime(_Real, metaclass=_LooksReal):
    """Stands for `datetime.datetime` while a run has the clocks. It also works after that: it asks `time.time`."""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        """Return a plain `datetime.datetime`; a class that is derived from this one makes its own objects."""
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


class _Places:
    """Where modules hold the class: looked for once in each, in ``__main__`` each time."""

    def __init__(self) -> None:
        self._looked: dict[str, Any] = {}
        self._names: dict[str, list[str]] = {}

    def find(self) -> list[tuple[dict[str, Any], str]]:
        """Return the dictionary of each module that holds the class, real or virtual, and the name."""
        looked, modules = self._looked, sys.modules
        if looked != modules:  # as fast as C, since entries are the same objects
            for name in [name for name, module in list(modules.items()) if looked.get(name) is not module]:
                self._look_at(name)
            for name in looked.keys() - modules.keys():
                del looked[name]
                self._names.pop(name, None)
        self._look_at("__main__")  # a notebook's cells go on adding names
        return [(modules[name].__dict__, key) for name, keys in self._names.items() if name in modules for key in keys]

    def _look_at(self, name: str) -> None:
        module = sys.modules.get(name)
        held = []
        # Modules of other types may load themselves when they are looked at.
        if type(module) is ModuleType and name not in _LEFT_ALONE:
            held = [key for key, one in list(module.__dict__.items()) if one is _Real or one is VirtualDatetime]
        if held:
            self._names[name] = held
        else:
            self._names.pop(name, None)
        if not getattr(getattr(module, "__spec__", None), "_initializing", False):  # else it has more names later
            self._looked[name] = module


_places: Final = _Places()


@contextmanager
def follow_dates() -> Iterator[None]:
    """Let `datetime.datetime` follow `time.time`, in a ``with`` block."""
    if datetime.datetime is not _Real or _Real in copyreg.dispatch_table:  # another library does the like
        yield
        return
    for contents, name in _places.find():
        if contents.get(name) is _Real:
            contents[name] = VirtualDatetime
    # pickle names a class, and looks whether it is there under that name.
    copyreg.dispatch_table[_Real] = _reduce
    try:
        yield
    finally:
        del copyreg.dispatch_table[_Real]
        for contents, name in _places.find():  # modules that were imported meanwhile are among them
            if contents.get(name) is VirtualDatetime:
                contents[name] = _Real


def _reduce(value: datetime.datetime) -> tuple[Any, ...]:
    return VirtualDatetime, *value.__reduce_ex__(2)[1:]

"""Which service of a host has opened what: `OwnedHandlers`, a driver's handlers that note it.

A server's connections and the tasks that their protocols make belong to the service that has opened the server. They
are made in the context of the stack, and not in that of the service, so that the context is set for each event.
"""

from __future__ import annotations

from typing import Any

from tcpip_wasm.driver import Handler
from tcpip_wasm.simulation.place import service


class OwnedHandlers(dict[int, Handler]):
    """What stands behind each handle of a stack; `get` is called by the driver before it hands out an event.

    Attributes:
        owners: the service that has opened it, by handle; what no service has opened is not there.
    """

    def __init__(self, handlers: dict[int, Handler]) -> None:
        super().__init__(handlers)
        self.owners: dict[int, object] = {}

    def __setitem__(self, handle: int, handler: Handler) -> None:
        super().__setitem__(handle, handler)
        owner = service.get()
        if owner is None:
            self.owners.pop(handle, None)
        else:
            self.owners[handle] = owner

    def pop(self, handle: int, *default: Any) -> Any:
        """Remove a handler, and the service that has opened it."""
        self.owners.pop(handle, None)
        return super().pop(handle, *default)

    def owned(self) -> list[Handler]:
        """Return the handlers that services have."""
        return [self[handle] for handle in self.owners]

    def get(self, handle: int, default: Handler | None = None) -> Handler | None:  # type: ignore[override]
        """Return a handler, and let what it does belong to the service that has opened it."""
        service.set(self.owners.get(handle))
        return super().get(handle, default)

"""`OwnedHandlers`: a driver's handlers, which record the service of a host that opened each socket.

A server's connections and the tasks that their protocols create belong to the service that opened the server. They are
created in the context of the stack, not in that of the service, so the context variable is set for each event.
"""

from __future__ import annotations

from typing import Any

from tcpip_wasm.driver import Handler
from tcpip_wasm.simulation.place import service


class OwnedHandlers(dict[int, Handler]):
    """The handlers of a stack by handle; the driver calls `get` before it delivers an event.

    Attributes:
        owners: the service that opened each handle; handles that no service opened are missing.
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
        """Remove a handler and its owner."""
        self.owners.pop(handle, None)
        return super().pop(handle, *default)

    def owned(self) -> list[Handler]:
        """Return the handlers that belong to services."""
        return [self[handle] for handle in self.owners]

    def get(self, handle: int, default: Handler | None = None) -> Handler | None:  # type: ignore[override]
        """Return a handler, and make the service that opened it the current one."""
        service.set(self.owners.get(handle))
        return super().get(handle, default)

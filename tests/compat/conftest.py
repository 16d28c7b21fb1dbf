"""Every test here runs on asyncio's loop and on uvloop's."""

from __future__ import annotations

import pytest

from tests import support_stacks


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of loop that `support_stacks.run` makes."""
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
        monkeypatch.setattr(support_stacks, "loop_factory", uvloop.new_event_loop)
    return str(request.param)

"""Every test of sockets runs on asyncio's loop and on uvloop's."""

from __future__ import annotations

import pytest

from tests.kit.stacks import set_loop_kind


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of loop that `stack_kit.run` makes."""
    set_loop_kind(request.param, monkeypatch)
    return str(request.param)

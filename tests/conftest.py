"""Settings of all tests: cheap garbage collection, and no deadline for generated examples."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, on a machine that does much else, says nothing about it.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True, scope="module")
def small_heap() -> Iterator[None]:
    """Freeze the objects that exist before a module's tests, so that a collection visits only new ones.

    Most tests end with one, to find what they left behind. Over all that the libraries of the tests bring along, a
    collection takes a third of a second.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()

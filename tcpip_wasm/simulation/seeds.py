"""Where every seed of a simulation is derived from the one that its user gives.

Owns the form of a derived seed: the seed and a path, joined by slashes. Runs are repeatable only as long as these texts
stay the same: the hashes of traces depend on them.
"""

from __future__ import annotations

from random import Random


def derive(seed: object, *path: object) -> str:
    """Return the seed of one source of random numbers.

    Args:
        seed: the user's.
        path: what the source is for, such as a link's name and a direction. Two sources need two paths.
    """
    return "/".join(map(str, (seed, *path)))


def random_for(seed: object, *path: object) -> Random:
    """Return a source of random numbers with the seed of a path; see `derive`."""
    return Random(derive(seed, *path))

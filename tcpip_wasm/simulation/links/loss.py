"""Loss models: which frames of a channel get lost, independently or in bursts.

A model draws from the random stream it is given and from nothing else, and only by `Random.random`, whose values every
CPython gives alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from random import Random


def check_number(name: str, value: object, lowest: float, highest: float, *, below: bool = False) -> float:
    """Return a number within bounds, as a float.

    Args:
        name: the argument's, for the message.
        value: what the caller wrote; a bool is no number.
        lowest, highest: what it may be, both included.
        below: `lowest` itself is excluded.

    Raises:
        TypeError: no number.
        ValueError: out of range, infinite, or not a number in the other sense.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not isfinite(value) or not lowest <= value <= highest or (below and value == lowest):
        raise ValueError(f"{name}: {value} is not {'above' if below else 'within'} {lowest:g} and up to {highest:g}")
    return float(value)


def check_probability(name: str, value: object) -> float:
    """Return a probability, 0 to 1. Raises what `check_number` raises."""
    return check_number(name, value, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GilbertElliott:
    """Loss in bursts: a chain of two states, good and bad, that moves on with each frame.

    The model is of E. N. Gilbert, "Capacity of a Burst-Noise Channel", and E. O. Elliott, "Estimates of Error Rates for
    Codes on Burst-Noise Channels" (Bell System Technical Journal, 1960 and 1963). The letters are theirs, as netem's
    ``loss gemodel p r 1-h 1-k`` uses them. It begins in the good state; a frame meets the state that the one before
    left. With the defaults all frames of the bad state are lost and none of the good one: the simple Gilbert model,
    whose bursts have a mean length of 1/r frames.

    Args:
        p: probability to go from good to bad.
        r: probability to go from bad to good.
        h: probability that a frame passes in the bad state.
        k: probability that a frame passes in the good state.

    Raises:
        TypeError, ValueError: one of them is no probability; with `r` of 0 the bad state would never end.
    """

    p: float
    r: float
    h: float = 0.0
    k: float = 1.0

    def __post_init__(self) -> None:
        for name in ("p", "r", "h", "k"):
            check_probability(f"GilbertElliott.{name}", getattr(self, name))
        if self.r == 0:
            raise ValueError("GilbertElliott.r: 0 would never end a burst")

    @property
    def mean(self) -> float:
        """The share of frames that is lost in the long run: (1-k) r/(p+r) + (1-h) p/(p+r)."""
        return ((1 - self.k) * self.r + (1 - self.h) * self.p) / (self.p + self.r)


def loss_of(model: float | GilbertElliott, random: Random) -> Callable[[], bool]:
    """Return what says of each frame in turn whether it is lost.

    Args:
        model: a probability, or a model of bursts.
        random: the stream that is drawn from: once a frame, or twice.
    """
    draw = random.random
    if not isinstance(model, GilbertElliott):
        probability = float(model)
        return lambda: draw() < probability
    p, r, lost_bad, lost_good = model.p, model.r, 1 - model.h, 1 - model.k
    bad = False

    def lost() -> bool:
        nonlocal bad
        is_lost = draw() < (lost_bad if bad else lost_good)
        if draw() < (r if bad else p):
            bad = not bad
        return is_lost

    return lost

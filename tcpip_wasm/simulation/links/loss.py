"""Loss models: which frames of a channel are lost, independently or in bursts.

A model draws from the random stream it is given, and only by `Random.random`, whose values are the same in every
version of CPython.
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
        value: the argument; a bool is not accepted.
        lowest, highest: the bounds, both included.
        below: excludes `lowest`.

    Raises:
        TypeError: not a number.
        ValueError: out of range, infinite, or NaN.
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
    """Loss in bursts: a Markov chain of two states, good and bad, with one transition a frame.

    The model is of E. N. Gilbert, "Capacity of a Burst-Noise Channel", and E. O. Elliott, "Estimates of Error Rates for
    Codes on Burst-Noise Channels" (Bell System Technical Journal, 1960 and 1963), with their letters, as in netem's
    ``loss gemodel p r 1-h 1-k``. It starts in the good state; the transition is drawn after each frame. With the
    defaults all frames are lost in the bad state and none in the good one: the simple Gilbert model, whose bursts have
    a mean length of 1/r frames.

    Args:
        p: probability to go from good to bad.
        r: probability to go from bad to good.
        h: probability that a frame passes in the bad state.
        k: probability that a frame passes in the good state.

    Raises:
        TypeError, ValueError: one of them is not a probability, or `r` is 0, with which the bad state would not end.
    """

    p: float
    r: float
    h: float = 0.0
    k: float = 1.0

    def __post_init__(self) -> None:
        for name in ("p", "r", "h", "k"):
            check_probability(f"GilbertElliott.{name}", getattr(self, name))
        if self.r == 0:
            raise ValueError("GilbertElliott.r: with 0 a burst would not end")

    @property
    def mean(self) -> float:
        """The mean loss rate: (1-k) r/(p+r) + (1-h) p/(p+r)."""
        return ((1 - self.k) * self.r + (1 - self.h) * self.p) / (self.p + self.r)


def loss_of(model: float | GilbertElliott, random: Random) -> Callable[[], bool]:
    """Return a function that is called once for each frame, and returns whether the frame is lost.

    Args:
        model: a probability, or a model of bursts.
        random: the stream that it draws from: once or twice a frame.
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

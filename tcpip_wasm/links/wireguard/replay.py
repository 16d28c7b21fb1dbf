"""The window of message numbers by which messages that arrive twice are dropped (RFC 6479).

Owns the numbers of one session. Its bits are in a ring of words, so that moving it clears words and shifts nothing.
"""

from __future__ import annotations

from typing import Final

_WORDS: Final = 128
_BITS: Final = 64
WINDOW: Final = (_WORDS - 1) * _BITS
"""8,128 messages: how far behind the newest a message may be. One word is always in part ahead of the newest."""


class ReplayWindow:
    """Which message numbers have arrived.

    Attributes:
        newest: the greatest number; -1 before the first.
    """

    __slots__ = ("_words", "newest")

    def __init__(self) -> None:
        self.newest: int = -1
        self._words = [0] * _WORDS

    def is_new(self, number: int) -> bool:
        """Whether a message has not arrived before, as far as the window can say."""
        if number > self.newest:
            return True
        if self.newest - number > WINDOW:
            return False
        return not self._words[number // _BITS % _WORDS] >> number % _BITS & 1

    def add(self, number: int) -> bool:
        """Note the number of a message that is authentic; return False where it is none that `is_new`."""
        newest = self.newest
        word = number // _BITS
        words = self._words
        if number > newest:
            last = newest // _BITS
            if word != last:
                for each in range(last + 1, min(word, last + _WORDS) + 1):
                    words[each % _WORDS] = 0
            self.newest = number
        elif newest - number > WINDOW:
            return False
        bit = 1 << number % _BITS
        if words[word % _WORDS] & bit:
            return False
        words[word % _WORDS] |= bit
        return True

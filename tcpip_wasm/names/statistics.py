"""What a resolver counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Counters of queries and answers so far; see `ResolverStatistics`."""

    udp_queries: int = 0
    tcp_queries: int = 0
    truncated: int = 0
    timed_out: int = 0
    unreachable: int = 0
    refused: int = 0
    strangers: int = 0
    unasked: int = 0
    malformed: int = 0
    cache_hits: int = 0


@dataclass(frozen=True, slots=True)
class ResolverStatistics:
    """What a resolver has counted so far.

    Attributes:
        udp_queries, tcp_queries: questions sent.
        truncated: answers that led to TCP.
        timed_out: questions to which no answer came in time.
        unreachable: questions that could not be sent, or that the server's host refused.
        refused: answers in which the server cannot or will not answer (SERVFAIL, REFUSED and the like).
        strangers, unasked, malformed: what came and was ignored: from a host that was not asked; an answer to
            another question, or with another id; what cannot be read.
        cache_hits: questions answered from memory.
        cached: answers and denials remembered now.
        evicted: those forgotten before their time because there was no room.
        under_way: questions under way or waiting now.
    """

    udp_queries: int
    tcp_queries: int
    truncated: int
    timed_out: int
    unreachable: int
    refused: int
    strangers: int
    unasked: int
    malformed: int
    cache_hits: int
    cached: int
    evicted: int
    under_way: int

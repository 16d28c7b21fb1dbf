"""Benchmarks: our figures beside asyncio's over the kernel's loopback, taken in one run on one machine.

    python -m benchmarks               everything, about two minutes
    python -m benchmarks --quick       a smoke test of a few seconds per part; its figures mean little
    python -m benchmarks --long        and ten gigabytes over one connection
    python -m benchmarks --readme      and the tables of docs/reference/figures.md and README.md are written anew

Each module measures one noun and knows only `networks`, `payload` and `report`. Compared cases alternate,
so that a machine that slows down slows down both sides. Whether a goal is met is printed and never decides
the exit status.

How each figure is taken, and what limits it, is in docs/explanation/performance.md.
"""

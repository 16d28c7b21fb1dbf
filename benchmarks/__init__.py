"""Benchmarks: the package compared with asyncio over the kernel's loopback, in one run on one machine.

    python -m benchmarks               everything, about two minutes
    python -m benchmarks --quick       a smoke test of a few seconds per part; its figures are not reliable
    python -m benchmarks --long        also sends ten gigabytes over one connection
    python -m benchmarks --readme      also writes the tables of docs/reference/figures.md and README.md
    python -m benchmarks --only paths    the matrix of paths, ten minutes; --cells TEXT: those named so

Each module measures one noun and knows only `networks`, `payload` and `report`. Compared cases alternate,
so that a machine that slows down slows down both sides. Whether a goal is met is printed and never decides
the exit status.

docs/explanation/performance.md describes how each figure is measured, and what limits it.
"""

"""A replicated key-value store with a real bug, and the simulation that finds it.

The tutorial explains it: docs/tutorial/replicated-store.md.

    store       the store: ordinary asyncio code, which knows nothing of simulations
    client      a client of it, which writes down what it did
    checker     whether what clients saw is what one store would have answered
    scenario    five replicas and four clients on a switch, and partitions
    __main__    the hunt: ``python -m examples.replicated_store``
"""

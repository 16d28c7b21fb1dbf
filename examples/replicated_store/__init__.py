"""A replicated key-value store with a real bug, and the simulation that finds it.

The tutorial explains it: docs/tutorial/replicated-store.md.

    store       the store: ordinary asyncio code, independent of simulations
    client      a client, which records its operations
    checker     checks that a history of operations is linearizable
    scenario    five replicas and four clients at two sites, and a link that fails
    __main__    the search for a failing seed: ``python -m examples.replicated_store``
"""

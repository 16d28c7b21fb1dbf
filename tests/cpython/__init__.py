"""CPython's own tests of asyncio, run over a stack."""

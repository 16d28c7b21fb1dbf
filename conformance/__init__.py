"""One suite for all hosts of the module: scenarios as data, and what every host must see in them.

suite       reads `scenarios/` and compiles it, with the numbers of wasm/abi.toml, to what a runner executes
runner      executes a compiled scenario by the Python core, under wasmtime or in Pyodide
check       compares what a host has seen with the scenario's expectations and with `digests.json`
hosts       starts the hosts: wasmtime here, and Node, browsers and Pyodide by js/conformance
packets     builds the frames that scenarios inject

The other runner is js/conformance/runner.mjs, which calls the module directly. docs/explanation/conformance.md explains
the language of the scenarios.
"""

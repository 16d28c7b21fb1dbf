"""Helpers that several folders of tests share, one module for each topic.

    core_network      hosts on the sans-I/O core, connected by a wire with rules, without asyncio
    stacks            pairs of connected stacks on an event loop, and helpers that run and wait
    blocking_sockets  a socket API, real or over a stack, for code that blocks
    frames            builds frames of each protocol, well-formed and malformed
    dhcp, dns         servers whose answers the tests script
    tls               a certificate authority, and TLS contexts
    http              an HTTP server, for clients of libraries
    captures          links, transfers and streams for tests of captures
    links             two hosts on a simulated link, and measurements of it
    simulation_hosts  hosts and services for tests of runs
    scenarios         scenarios for sweeps, which worker processes import
    machine_network   programs with polyfills that must not use the machine's network
    lwip_program      loads the programs of third_party/lwip
"""

"""Helpers that several folders of tests share, one module for each topic.

core_network      hosts on the sans-I/O core, connected by a wire with rules, without asyncio
stacks            pairs of connected stacks on an event loop, and helpers that run and wait
memory_streams    sources and sinks of streams in memory
polyfill_servers  servers and a client for tests of polyfills
blocking_sockets  a socket API, real or over a stack, for code that blocks
frames            builds frames of each protocol, well-formed and malformed
dhcp, dns         servers whose answers the tests script
resolver          a resolver in a network with such a server
tls               a certificate authority, and TLS contexts
http              an HTTP server, for clients of libraries
captures          links, transfers and streams for tests of captures
links             two hosts on a simulated link, and measurements of it
simulation_hosts  hosts and services for tests of runs
scenarios         scenarios for sweeps, which worker processes import
plugin_runs       runs of pytest with the plugin, in processes of their own
machine_network   programs with polyfills that must not use the machine's network
lwip_program      loads the programs of third_party/lwip
"""

"""The commands of ``tcpip-wasm`` that join a stack to something outside of the process.

    arguments      what the commands accept, and their help
    running        an event loop for one command: signals, errors as one line, exit statuses
    outside        the option ``--link``: a TAP device, a virtual machine's socket, a WebSocket
    machine_names  the machine's name servers, for ``serve``
    serve          ``tcpip-wasm serve``
    ping           ``tcpip-wasm ping``
    record         ``tcpip-wasm capture``
    relay          ``tcpip-wasm relay``

Links and services are imported when a command runs: `tcpip-wasm show` needs neither.
"""

from tcpip_wasm.commands.arguments import add_network_commands

__all__ = ["add_network_commands"]

"""The port for the WebAssembly engine of a JavaScript host, reached by Pyodide. Only this package imports Pyodide.

module     the compiled module, and limits on its memory
sandbox    one instance: `port.Sandbox`
"""

from tcpip_wasm.engine.javascript_engine.sandbox import instantiate

__all__ = ["instantiate"]

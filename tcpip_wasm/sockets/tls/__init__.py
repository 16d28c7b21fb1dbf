"""TLS over a TCP transport.

tls_transport   TLS over a transport
tls_connection  TLS over a connection in the stream-style interface
"""

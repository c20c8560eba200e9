"""The public HTTP/1.1 and WebSocket server, as protocol machines on the reactor."""

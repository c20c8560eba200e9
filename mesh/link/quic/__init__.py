"""Links over UDP: QUIC (RFC 9000), the same keys and the same greeting as over TCP."""

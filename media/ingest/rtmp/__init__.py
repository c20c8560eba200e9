"""RTMP and Enhanced RTMP, in and out: handshake, chunks, commands, sessions. Pure."""

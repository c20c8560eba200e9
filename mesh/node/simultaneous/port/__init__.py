"""The sockets of one simultaneous open."""

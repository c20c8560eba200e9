"""TCP connections that both ends open."""

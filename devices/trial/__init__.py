"""Trying engines in child processes: drivers crash and hang, and must not take the node with them."""

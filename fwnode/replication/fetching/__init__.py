"""Streams that this node takes from others."""

"""Streams that this node gives to edges."""

"""Renditions of a stream, made on this node: what to make, the worker that makes it, where it goes."""

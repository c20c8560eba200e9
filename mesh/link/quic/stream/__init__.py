"""A stream of bytes for tasks."""

"""Frames over one connection."""

"""The agent: everything an operator touches, composed from media, mesh and devices."""

__version__ = "0.1.0"

"""The UDP port."""

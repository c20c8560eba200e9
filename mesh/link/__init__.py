"""Authenticated, encrypted connections between members of one network."""

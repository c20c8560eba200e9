"""Sequences of numbered objects that keep coming whatever path leads to the peer."""

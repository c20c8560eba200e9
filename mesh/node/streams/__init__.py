"""Bulk streams between two members: connections of their own, by service name."""

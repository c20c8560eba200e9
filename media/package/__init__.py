"""Marked packets to media objects and playlists: the same bytes and names on every node. Pure."""

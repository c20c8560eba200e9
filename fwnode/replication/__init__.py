"""Streams of other nodes here, and ours there: what media.replicate offers, over the mesh."""

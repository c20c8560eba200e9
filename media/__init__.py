"""Streams in, tracks, packaging, delivery. Knows nothing of mesh, devices or the agent."""

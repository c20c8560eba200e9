"""Processes that deliver beside the agent: they take its streams over a local socket and share its port."""

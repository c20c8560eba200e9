"""Codec headers: what a configuration and its frames say about themselves. Pure, decodes nothing."""

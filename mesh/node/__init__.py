"""One running node of a network: gossip, links and discovery put together."""

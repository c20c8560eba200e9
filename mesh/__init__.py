"""Identity, links, membership, directory and routing between nodes."""

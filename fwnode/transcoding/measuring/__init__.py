"""What the host can transcode, found out while the node runs."""

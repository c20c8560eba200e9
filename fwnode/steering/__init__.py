"""Which node of the network each viewer is sent to."""

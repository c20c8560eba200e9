"""What the routers on a node's way do with UDP, and ways through them."""

"""Who a node is, what it may do in which network, and who says so."""

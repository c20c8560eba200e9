"""This node's part in its network, for as long as it is in one."""

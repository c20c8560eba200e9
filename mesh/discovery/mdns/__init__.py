"""Nodes of one network on one LAN find each other by DNS-SD over multicast DNS (RFC 6762, RFC 6763)."""

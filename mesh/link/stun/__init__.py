"""STUN over TCP."""

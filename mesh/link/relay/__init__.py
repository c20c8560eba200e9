"""Connections of members that cannot reach each other, spliced by one that both can reach."""

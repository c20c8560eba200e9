"""How fast bytes come from a member, over which paths, and whether each was right."""

"""One picture of each stream, for cards and for players before they play."""

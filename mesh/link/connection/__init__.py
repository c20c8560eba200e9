"""One encrypted connection and how it is made."""

"""Load generators: one process each, started by `load.py`, steered over standard input."""

"""The rows, in the order in which they are run."""

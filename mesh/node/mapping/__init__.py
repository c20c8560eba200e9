"""The mesh port as the router opens it."""

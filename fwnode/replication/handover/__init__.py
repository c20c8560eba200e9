"""A name changes its origin: where the new one goes on with the stream."""

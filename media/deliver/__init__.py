"""A stream to its viewers: the HTTP data plane and what is served on it."""

"""Where members were reached last, for the next start."""

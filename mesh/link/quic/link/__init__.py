"""One QUIC connection to a member."""

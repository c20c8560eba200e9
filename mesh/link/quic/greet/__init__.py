"""The greeting on the first stream of a QUIC connection."""

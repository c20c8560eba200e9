"""A stream from node to node: its marked packets, signed by their origin part by part."""

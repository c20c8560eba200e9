"""Binds renditions to what the host can do: admission by measured cost, feedback, and sums for reports."""

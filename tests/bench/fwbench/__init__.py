"""The benchmark harness: rows, load generators, and the programs measured beside the node."""

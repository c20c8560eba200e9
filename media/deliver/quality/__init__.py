"""What viewers see: told by players, put together per stream."""

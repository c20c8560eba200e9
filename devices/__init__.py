"""What this host can do: encoders, decoders, capacity."""

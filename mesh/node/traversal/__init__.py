"""UDP paths to members that nobody can dial."""

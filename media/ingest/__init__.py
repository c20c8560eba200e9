"""Who may publish, and a publisher's bytes to frames."""

"""One trio task that runs many TCP protocol machines: reactor, timers, TLS."""

"""Stream keys made on one node of a network and good on all that take streams in."""

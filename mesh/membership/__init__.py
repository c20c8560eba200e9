"""Who is here: the overlay of live links, broadcast on it, and who has gone."""

"""What is wrong with a publisher's stream, in words a streamer can act on. Pure."""

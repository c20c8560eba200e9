"""What the owner gives: uplink, volume, hours, streams; and when nobody new is let in."""

"""Files and streams that carry packets: FLV, fragmented MP4, MPEG-TS."""

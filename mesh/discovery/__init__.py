"""How a node finds others: mDNS on the LAN, seeds, the last known peers. Finding admits nobody."""

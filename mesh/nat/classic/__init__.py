"""The classification of RFC 3489 by a program that is not ours, as a second opinion."""

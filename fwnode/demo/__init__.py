"""The built-in test source: a moving picture with a burnt-in clock, and a beep each second."""

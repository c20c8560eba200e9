"""Renditions made by others: segments of a stream go to Livepeer gateways, renditions come back."""

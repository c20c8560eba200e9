"""Asks the home's router to let others in on the mesh port: PCP, NAT-PMP, UPnP IGD."""

"""What runs in the processes that are measured.

An interpreter that has a peer, and not this package, can run these files too: they know each other
only as siblings, and import what they measure when they are asked to.
"""

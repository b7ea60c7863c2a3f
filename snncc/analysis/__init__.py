"""What can be said of a graph without running it on a chip: ranges, bounds, claims, operations.

Below passes and mapping, which ask; every bound has one author here.
"""

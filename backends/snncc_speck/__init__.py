"""SynSense Speck: chip description, legalisation, gated schedule, emission. Needs no vendor software."""

from snncc_speck.target import SPECK2F, SpeckTarget

__all__ = ["SPECK2F", "SpeckTarget"]

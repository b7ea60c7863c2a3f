"""SynSense Speck: chip description, legalisation, gated schedule, emission. Needs no vendor software."""

from snncc_speck.target import SPECK2F, speck_target

__all__ = ["SPECK2F", "speck_target"]

"""SynSense Speck: chip description, legalisation, gated schedule, emission. Needs no vendor software."""

from snncc_speck.target import SPECK2E, SPECK2F, speck_target

__all__ = ["SPECK2E", "SPECK2F", "speck_target"]

"""Rates, operations and energy of the *trained* network: no chip, no quantization."""

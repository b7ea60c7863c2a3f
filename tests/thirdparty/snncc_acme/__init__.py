"""Acme's chip for snncc: a target, a pass, error codes, and a frontend for Acme's own files."""

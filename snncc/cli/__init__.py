"""The command line: a thin layer over :mod:`snncc.api`."""

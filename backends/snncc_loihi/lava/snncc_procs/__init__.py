"""Lava processes of snncc's Loihi programs.

They stand alone in this package, because Lava executes every Python file beside a process's file.
"""

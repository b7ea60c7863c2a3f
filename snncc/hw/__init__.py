"""Chips as data."""

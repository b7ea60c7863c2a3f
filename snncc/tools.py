"""What is known of the optional tools beside snncc; imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What ``snncc doctor`` says of one tool.

    Attributes:
        status: ``ok``, ``missing``, ``unusable``, or ``elsewhere`` (needs another environment).
        purpose: what it is needed for.
        note: why it is as it is, or what to do.
    """

    name: str
    version: str | None
    status: str
    purpose: str
    note: str = ""

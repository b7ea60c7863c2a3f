"""Whether the files in ``target/`` are those that the verified network gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest

from snncc.artifact import Artifact
from snncc.equivalence.difference import Difference, first_difference
from snncc.errors import Problem, problem

FOLDER = "target/"


def chip_file_problems(artifact: Artifact, emitted: Mapping[str, bytes]) -> Iterator[Problem]:
    """One problem (SNNC-Q003) for every file that is not, byte for byte, what its backend emits.

    Args:
        artifact: its manifest has the SHA-256 of every file that was read.
        emitted: files by name, made anew of the artifact's mapped network.
    """
    recorded = {n.removeprefix(FOLDER): d for n, d in artifact.manifest.files.items() if n.startswith(FOLDER)}
    hint = f"compiling again, or snncc {artifact.manifest.snncc}, which wrote it"
    for name in sorted(recorded.keys() | emitted.keys()):
        where = f"{artifact.path}/{FOLDER}{name}"
        if name not in emitted:
            yield problem("SNNC-Q003", where, "is no file that mapped.json gives", hint=hint)
        elif name not in recorded:
            yield problem("SNNC-Q003", where, "is missing: mapped.json gives such a file", hint=hint)
        elif recorded[name] != hashlib.sha256(emitted[name]).hexdigest():
            found = _difference((artifact.path / FOLDER / name).read_bytes(), emitted[name])
            what = f"differs from what mapped.json gives at {found.path}"
            yield problem("SNNC-Q003", where, what, got=found.got, limit=found.limit, hint=hint)


def _difference(stored: bytes, emitted: bytes) -> Difference:
    try:
        found = first_difference(json.loads(stored), json.loads(emitted))
    except (ValueError, RecursionError):
        found = None
    return found or _first_byte(stored, emitted)


def _first_byte(stored: bytes, emitted: bytes) -> Difference:
    pairs = enumerate(zip_longest(stored, emitted, fillvalue="nothing"))
    at, (got, limit) = next(((i, p) for i, p in pairs if p[0] != p[1]), (0, (0, 0)))
    return Difference(f"byte {at}", str(got), str(limit))

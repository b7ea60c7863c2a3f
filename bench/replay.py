"""What artifacts compute, recorded; and what another version of snncc computes otherwise.

Run: ``python bench/replay.py record OUT.json`` and ``python bench/replay.py compare RECORDED.json``; the
version is the one that is on the path. Networks are those of ``tests/replay_nets.py`` (300 random ones
and the examples), each on every target and schedule. ``compare`` ends with exit code 1 if any recorded
value is missing or another; refusals with other codes are noted only. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from replay_nets import NAMES, subject
from replaying import Runs, differences, notes, packed, replayed, unpacked

SHOWN = 5  # differences of one network


def record(path: Path) -> int:
    networks: dict[str, Runs] = {}
    for name in NAMES:
        networks[name] = replayed(*subject(name))
        print(name, flush=True)
    path.write_text(packed(networks), encoding="utf-8")
    print(f"{path}: {len(networks)} networks, {path.stat().st_size / 1e3:.0f} kB")
    return 0


def compare(path: Path) -> int:
    changed = 0
    recorded = unpacked(path.read_text(encoding="utf-8"))
    for name, runs in recorded.items():
        now = replayed(*subject(name))
        found = list(differences(runs, now, (name,)))
        for line in (*found[:SHOWN], *(f"note: {name}: {note}" for note in notes(runs, now))):
            print(line, flush=True)
        if len(found) > SHOWN:
            print(f"{name}: and {len(found) - SHOWN} more")
        changed += bool(found)
    print(f"{changed} of {len(recorded)} networks compute something else")
    return 1 if changed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="What artifacts compute, recorded or compared.")
    parser.add_argument("do", choices=("record", "compare"))
    parser.add_argument("path", type=Path)
    chosen = parser.parse_args()
    return (record if chosen.do == "record" else compare)(chosen.path)


if __name__ == "__main__":
    sys.exit(main())

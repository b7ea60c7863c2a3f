"""Changes files of an artifact and records their new hashes everywhere, as a forger would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def forge(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of a file; the manifest and its sum agree with it afterwards."""
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    if name == "manifest.json":
        line = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  manifest.json\n"
        (folder / "manifest.sha256").write_text(line)
    else:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        forge_json(folder, "manifest.json", lambda manifest: manifest["files"].update({name: digest}))


def forge_json(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change the document of a JSON file in place."""

    def edit(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    forge(folder, name, edit)

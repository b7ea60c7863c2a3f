"""What ``snncc doctor`` says of Lava, which lives in an environment of its own."""

from __future__ import annotations

import os
import shutil

from snncc.errors import SnnccError
from snncc.tools import Finding
from snncc_loihi.runner import PYTHON_VARIABLE, lava_python, probe

PURPOSE = "running Loihi artifacts on Lava's fixed-point processes"


def lava() -> Finding:
    """Whether a Lava environment is found, and whether it can run our networks."""
    try:
        found = probe(lava_python())
    except SnnccError as error:
        named = os.environ.get(PYTHON_VARIABLE)
        if named:
            note = f"{PYTHON_VARIABLE}={named}: {error.problems[0].what}"
            return Finding("lava", None, "unusable", PURPOSE, note)
        interpreter = shutil.which("python3.10")
        where = f"{interpreter} could hold it" if interpreter else "no python3.10 on the path"
        note = f"`make lava-env`, or SNNCC_LAVA_PYTHON; needs a separate Python 3.10: {where}"
        return Finding("lava", None, "elsewhere", PURPOSE, note)
    if found.defect is not None:
        return Finding("lava", found.lava, "unusable", PURPOSE, f"{found.python}: {found.defect}")
    return Finding("lava", found.lava, "ok", PURPOSE, f"in {found.python}, Python {found.version}")

"""Plays ``target/*.json`` of a Speck artifact, and nothing else of it, as the documentation describes the chip.

Shares no code with what emitted the files: weights are [feature][channel][x][y], states
[feature][x][y]; an event that a spike causes travels on at once, through every destination entry.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np


class Chip:
    """Membranes and spike counts of the cores of one configuration."""

    def __init__(self, files: Mapping[str, bytes], name: str = "speck2f") -> None:
        config = json.loads(files[f"{name}.json"])
        self.schedule = json.loads(files["schedule.json"])["steps"]
        self.cores: dict[int, Any] = {int(k): v for k, v in config["cnn_layers"].items()}
        self.weights = {k: np.array(c["weights"]).transpose(0, 1, 3, 2) for k, c in self.cores.items()}
        self.v = {
            k: np.array(c["neurons_initial_value"]).transpose(0, 2, 1).copy() for k, c in self.cores.items()
        }
        self.counts = {k: np.zeros_like(v) for k, v in self.v.items()}

    def play(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Counts of every piece (membranes where nothing may fire) for input counts [C, H, W]."""
        for step in self.schedule:
            if step["do"] == "play_input":
                self._play_input(step, x)
            elif step["do"] == "release":
                for _ in range(step["rounds"]):
                    for y in step["y"]:
                        for column in step["x"]:
                            self._event(step["layer"], step["feature"], y, column)
        return {
            c["snncc_piece"]: self.v[k] if c["threshold_high"] == 32767 else self.counts[k]
            for k, c in self.cores.items()
        }

    def _play_input(self, step: Any, x: np.ndarray) -> None:
        down, right = step["pooling"]
        for micro_step in range(int(x.max(initial=0))):
            for c, y, column in sorted(
                map(tuple, np.argwhere(x > micro_step)), key=lambda a: (a[1], a[2], a[0])
            ):
                at = (int(y) // down, int(column) // right)
                if at[0] < step["map"]["y"] and at[1] < step["map"]["x"]:
                    self._event(step["layer"], int(c), *at)

    def _event(self, core: int, feature: int, y: int, x: int) -> None:
        queue = deque([(core, feature, y, x)])
        while queue:
            queue.extend(self._deliver(*queue.popleft()))

    def _deliver(self, core: int, feature: int, y: int, x: int) -> list[tuple[int, int, int, int]]:
        layer = self.cores[core]
        d = layer["dimensions"]
        size = d["input_shape"]["size"]
        assert 0 <= y < size["y"], "an event outside the core's map"
        assert 0 <= x < size["x"], "an event outside the core's map"
        assert feature < d["input_shape"]["feature_count"]
        sent = []
        for ky in range(d["kernel_size"]):
            oy, rest_y = divmod(y + d["padding"]["y"] - ky, d["stride"]["y"])
            for kx in range(d["kernel_size"]):
                ox, rest_x = divmod(x + d["padding"]["x"] - kx, d["stride"]["x"])
                out = d["output_shape"]["size"]
                if rest_y or rest_x or not (0 <= oy < out["y"] and 0 <= ox < out["x"]):
                    continue
                v = self.v[core][:, oy, ox]
                v += self.weights[core][:, feature, ky, kx]
                np.clip(v, layer["threshold_low"], 32767, out=v)
                for o in np.flatnonzero(v >= layer["threshold_high"]):
                    v[o] -= layer["threshold_high"]
                    self.counts[core][o, oy, ox] += 1
                    for to in layer["destinations"]:
                        sent.append((to["layer"], int(o), oy // to["pooling"], ox // to["pooling"]))
        return sent

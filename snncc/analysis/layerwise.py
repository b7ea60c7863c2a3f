"""The float rule (docs/semantics.md#float-rule): two float graphs compared on the same input spikes.

End to end one spike that rounding flips can grow through the layers; so each layer of the second
graph is run on the *first* graph's spikes, its drive may differ by 1e-5·(Σ|w·x| + |b|), and a
spike may differ only where the membrane lies within that of a threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from snncc.analysis.magnitude import absolute
from snncc.arrays import Array
from snncc.ir.const import number_array
from snncc.ir.graph import Graph
from snncc.ir.interp import evaluate, run
from snncc.ir.membrane import Membrane, neuron_step
from snncc.ir.nodes import HostRegion, Input, Neuron, Node, Rounding
from snncc.ir.types import Spikes

TOLERANCE = 1e-5

# What is not computed anew in a layer: it makes its spikes, or the host does.
_KNOWN = (Neuron, Input, HostRegion)


@dataclass(frozen=True)
class LayerDifference:
    """One layer: largest |difference| / bound of its drive, spikes that differ, those against the rule."""

    name: str
    worst: float
    flips: int
    violations: int


@dataclass(frozen=True)
class LayerwiseReport:
    """All layers of a comparison."""

    layers: tuple[LayerDifference, ...]

    @property
    def worst(self) -> float:
        """Largest ratio to the bound; infinite if a spike differs away from every threshold."""
        ratios = [np.inf if layer.violations else layer.worst for layer in self.layers]
        return float(max(ratios, default=0.0))

    @property
    def flips(self) -> int:
        """Spikes that rounding flipped."""
        return sum(layer.flips for layer in self.layers)


Moved = Callable[[str, Array], Array]


def compare_layers(reference: Graph, other: Graph, x: Array, moved: Moved | None = None) -> LayerwiseReport:
    """Compare ``other`` with ``reference`` on inputs [N, T, *shape]; neurons correspond by name.

    ``moved`` puts the reference's values of a name in the order and shape that ``other`` has them in.

    Neurons that only ``other`` has (readouts) and those inside its host region are compared by
    the drive of what they read, resp. not at all: the host region holds the same nodes.
    """
    kept = tuple(n.name for n in reference.nodes if not isinstance(n, Input))
    values = run(reference, x, kept).values | {reference.input.name: x.astype(np.float32)}
    moved = moved or (lambda _, value: value)
    held = {name: moved(name, value) for name, value in values.items()}
    layers = []
    for node in other.nodes:
        if isinstance(node, Neuron) and isinstance(reference.by_name.get(node.name), Neuron):
            drive = values[reference.by_name[node.name].inputs[0]]
            layers.append(_compare(reference, other, node, held, drive, moved))
        elif isinstance(node, HostRegion):
            unit = _unit(reference, node.name) / _unit(other, node.name)
            mine = run(other, x, (node.name,)).values[node.name] * unit
            layers.append(LayerDifference(node.name, 0.0, int((mine != values[node.name]).sum()), 0))
    return LayerwiseReport(tuple(layers))


def _unit(graph: Graph, name: str) -> float:
    kind = graph.types[name]
    return kind.unit if isinstance(kind, Spikes) else 1.0


def _compare(
    reference: Graph, other: Graph, node: Neuron, values: dict[str, Array], drive: Array, moved: Moved
) -> LayerDifference:
    """``values`` as ``other`` has them, ``drive`` of the neurons as the reference has it."""
    theirs = reference.by_name[node.name]
    assert isinstance(theirs, Neuron)
    layer = other.layers[node.name]
    fired = tuple(n.name for n in layer.path if isinstance(n, _KNOWN))
    sources = {name: _in_units_of(other, reference, name, values) for name in (*layer.sources, *fired)}
    steps = values[node.name].shape[1]
    mine = [_drive(other, node, {k: v[:, t] for k, v in sources.items()}) for t in range(steps)]
    drives = np.stack([d for d, _ in mine], axis=1)
    bounds = np.stack([b for _, b in mine], axis=1) * TOLERANCE
    # Both drives in the unit of the membrane, where the threshold is 1.
    a = moved(node.name, _normalized(drive, theirs))
    b, bound = _normalized(drives, node), _normalized(bounds, node)
    bound = bound * max(1, steps)
    worst = np.where(a == b, 0.0, np.abs(a - b) / np.maximum(bound, 1e-30))
    if node.is_readout:
        return LayerDifference(node.name, float(worst.max(initial=0)), 0, 0)
    counts = np.stack(list(_fired(node, drives)), axis=1) / _unit(other, node.name)
    flips = np.rint(values[node.name] / _unit(reference, node.name)) != np.rint(counts)
    # With memory a flip changes all that follows; the rule is asked of the first one of each neuron.
    first = flips & (np.cumsum(flips, axis=1) == 1)
    distance = moved(node.name, _distance(theirs, _membranes(theirs, drive)))
    near = distance <= bound.cumsum(axis=1) * 2 + 1e-7
    return LayerDifference(
        node.name, float(worst.max(initial=0)), int(flips.sum()), int((first & ~near).sum())
    )


def _in_units_of(other: Graph, reference: Graph, name: str, values: dict[str, Array]) -> Array:
    """The reference's values as ``other`` holds them: the same counts, in its unit."""
    if name in values and not _folds(other, name):
        return np.asarray(values[name] * np.float32(_unit(other, name) / _unit(reference, name)))
    node = other.by_name[name]
    parts = [_in_units_of(other, reference, i, values) for i in node.inputs]
    steps = parts[0].shape[1]
    return np.stack([evaluate(node, [p[:, t] for p in parts]) for t in range(steps)], axis=1)


def _folds(graph: Graph, name: str) -> bool:
    """Whether a value is made of others and has no unit by type: factors move through it."""
    computed = not isinstance(graph.by_name[name], Neuron | Input | HostRegion)
    return computed and not isinstance(graph.types[name], Spikes)


def _drive(graph: Graph, neuron: Node, values: dict[str, Array]) -> tuple[Array, Array]:
    """Drive of a neuron and Σ|w·x| + |b| beside it, [N, *shape]."""
    env: dict[str, tuple[Array, Array]] = {}
    layer = graph.layers[neuron.name]
    ends = {node.name for node in layer.ends}
    for node in layer.path:
        if isinstance(node, _KNOWN):  # spikes that no weights stand behind, as of a logic gate or a sum
            env[node.name] = values[node.name], np.abs(values[node.name])
        elif node.name in ends:
            args = [values[i] for i in node.inputs]
            env[node.name] = evaluate(node, args), evaluate(absolute(node), [np.abs(x) for x in args])
        else:
            # What opens a gate is no sum, but spikes.
            pairs = [env.get(i) or (values[i], np.abs(values[i])) for i in node.inputs]
            env[node.name] = (
                evaluate(node, [a for a, _ in pairs]),
                evaluate(absolute(node), [b for _, b in pairs]),
            )
    return env[neuron.inputs[0]]


def _normalized(drive: Array, neuron: Neuron) -> Array:
    rank = drive.ndim - 1
    ratio = number_array(neuron.gain, rank) / number_array(neuron.threshold, rank)
    return np.asarray(drive * (ratio[:, None] if isinstance(ratio, np.ndarray) else ratio))


def _fired(neuron: Neuron, drives: Array) -> Iterator[Array]:
    state = Membrane()
    for t in range(drives.shape[1]):
        yield neuron_step(neuron, drives[:, t], state)


def _membranes(neuron: Neuron, drives: Array) -> Array:
    """Charged membrane u over θ at every timestep, [N, T, *shape]."""
    silent = replace(neuron, max_spikes=0)
    state, parts = Membrane(), []
    for t in range(drives.shape[1]):
        probe = replace(state)
        parts.append(
            neuron_step(silent, drives[:, t], probe) / number_array(neuron.threshold, drives.ndim - 1)
        )
        neuron_step(neuron, drives[:, t], state)
    return np.stack(parts, axis=1)


def _distance(neuron: Neuron, u: Array) -> Array:
    """Distance of u/θ to the nearest place where the count changes."""
    shift = 0.0 if neuron.rounding is Rounding.FLOOR else 0.5
    return np.asarray(np.abs(u + shift - np.rint(u + shift)))

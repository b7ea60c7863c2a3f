"""Whether every part of an artifact is what the part before it says: integers, spikes, mapping, certificate.

On data a network is compared neuron by neuron; what no sample shows is compared here. The spike graph
must be the spike form of the integer graph. A piece must have its neuron's numbers and hear what the neuron
hears: both are linear in the spikes of their sources (products: in what one source sent to be held and in
what the other streams), so random counts from every source, delayed as the synapses say, and others for
what is held, tell them apart: two polynomials that differ agree on few of them.
The certificate is computed anew. What a backend chose freely within that
(cores, gates, tiles) is checked by the rules of :mod:`snncc.mapping.check` and enters the chip files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from snncc.analysis.certificate import LayerRange
from snncc.analysis.claims import LayerSums, layer_sums
from snncc.arrays import Array
from snncc.artifact import Artifact
from snncc.equivalence.difference import first_difference
from snncc.errors import Problem, SnnccError, problem
from snncc.ir.const import Const
from snncc.ir.evaluation import evaluate
from snncc.ir.graph import Graph
from snncc.ir.nodes import Conv2d, Delay, Encode, Hold, MaxPool2d, WindowNeuron
from snncc.ir.schedule import Schedule
from snncc.ir.sites import Bitmap
from snncc.ir.text import to_text
from snncc.ir.types import Spikes
from snncc.mapping.address import SSC
from snncc.mapping.build import input_ports, output_port, piece_of, port_names
from snncc.mapping.check import violations
from snncc.mapping.mapped import Connection, Mapped, Piece
from snncc.mapping.partition import HOST_BITS
from snncc.mapping.pool import MaxOver
from snncc.mapping.product import ProductAddress, Strided
from snncc.passes.expand_sfa import ExpandSFA

_Delivered = dict[tuple[str, int, bool], Array]

_MOST = 1 << 16  # random counts are 1.._MOST: no weight of its own passes unseen


def part_problems(artifact: Artifact) -> tuple[Problem, ...]:
    """The first two parts that disagree (SNNC-Q004), with every problem between them; none if all agree.

    A part that contradicts the one before it says nothing about those behind it.
    """
    try:
        return next((found for step in _STEPS if (found := tuple(step(artifact)))), ())
    except SnnccError as error:
        what = "its parts cannot be compared"
        return (problem("SNNC-Q004", str(artifact.path), what, got=error.problems[0]),)


def _bad(artifact: Artifact, where: str, what: str, got: Any, limit: Any) -> Problem:
    return problem("SNNC-Q004", f"{artifact.path}/{where}", what, got=got, limit=limit)


def _form_problems(artifact: Artifact) -> Iterator[Problem]:
    """Rules of every placed network, without which the comparisons below mean nothing."""
    for broken in violations(artifact.mapped, artifact.tensors, artifact.chip, None):
        yield _bad(artifact, "mapped.json", f"{broken.where}: {broken.what}", broken.got, broken.limit)


# ---- integer.snn and spike.snn ----------------------------------------------------------------------


def _spike_problems(artifact: Artifact) -> Iterator[Problem]:
    chip = artifact.chip
    expand = ExpandSFA(
        artifact.mapped.schedule, capped=chip.abilities.clips_counts, longest=chip.limits.delay_max
    )
    expected = to_text(expand.run(artifact.integer_graph)).splitlines()
    found = first_difference(to_text(artifact.spike_graph).splitlines(), expected)
    if found is not None:
        what = f"differs from the spike form of integer.snn in line {int(found.path) + 1}"
        yield _bad(artifact, "spike.snn", what, found.got, found.limit)


# ---- spike.snn and mapped.json ----------------------------------------------------------------------


def _mapping_problems(artifact: Artifact) -> Iterator[Problem]:
    """Numbers of the neurons, their places in the schedule, what comes in and what goes out."""
    expected = _as_mapped(artifact)
    found = first_difference(artifact.mapped.model_dump(mode="json"), expected.model_dump(mode="json"))
    if found is not None:
        what = f"differs from what spike.snn says at {found.path}"
        yield _bad(artifact, "mapped.json", what, found.got, found.limit)


def _as_mapped(artifact: Artifact) -> Mapped:
    """The mapped network with everything that the spike graph and the chip leave no choice in."""
    graph, mapped, chip = artifact.spike_graph, artifact.mapped, artifact.chip
    own = {piece.name: piece for piece in mapped.pieces}
    pieces = []
    for node in (n for n in graph.nodes if isinstance(n, WindowNeuron)):
        mine = own.get(node.name)
        piece = piece_of(graph, node, mine.connections if mine else (), chip.limits.state_bits, {})
        piece = piece.model_copy(update={"products": mine.products if mine else ()})
        if mine is not None:
            chosen = {"gate": mine.gate, "admitted": mine.admitted, "on_host": mine.on_host}
            piece = piece.model_copy(update=chosen | ({"state_bits": HOST_BITS} if mine.on_host else {}))
        pieces.append(piece)
    changes = {
        "steps": graph.steps,
        "micro_steps": graph.micro_steps,
        "inputs": input_ports(graph),
        "pieces": tuple(pieces),
        "output": output_port(graph, {}),
    }
    return mapped.model_copy(update=changes)


def schedule_problems(artifact: Artifact, offered: Mapping[str, Schedule]) -> Iterator[Problem]:
    """Where the mapped network's schedule is another than its backend offers by that name (SNNC-Q004)."""
    own = artifact.mapped.schedule
    expected = asdict(offered[own.name]) if own.name in offered else {}
    found = first_difference(asdict(own), expected)
    if found is not None:
        what = f"is no schedule that the backend offers, by its {found.path}"
        yield _bad(artifact, f"mapped.json: {own.name}", what, found.got, found.limit)


# ---- synapses ---------------------------------------------------------------------------------------


@dataclass
class _Sent:
    """Random counts [1, *shape] that the sources of a spike graph sent, by name and micro-steps ago.

    Everything fires, or, with ``holes``, half of the sites of each map do.
    """

    graph: Graph
    rng: np.random.Generator
    holes: bool = False
    known: dict[tuple[str, int, bool], Array] = field(default_factory=dict)

    def by(self, node: Encode | WindowNeuron, ago: int, held: bool = False) -> Array:
        """What a source sent so many micro-steps ago, or before the window began (``held``)."""
        key = (node.name, ago, held)
        if key not in self.known:
            kind = self.graph.types[node.name]
            counts = self.rng.integers(1, _MOST, (1, *kind.shape), np.int64, endpoint=True)
            if isinstance(kind, Spikes) and kind.signed:  # a maximum of numbers below zero is one, too
                counts *= self.rng.choice((-1, -1, -1, 1), counts.shape)
            if self.holes:
                counts *= self.rng.integers(0, 2, (1, 1, *kind.shape[1:]))
            self.known[key] = counts
        return self.known[key]


def _synapse_problems(artifact: Artifact) -> Iterator[Problem]:
    by_centre = any(c.sites and c.sites.centre for p in artifact.mapped.pieces for c in p.connections)
    # What spikes open is the same as what is open only where some sites are silent.
    for holes in (False, True) if by_centre else (False,):
        if found := list(_differing(artifact, holes)):
            yield from found
            return


def _differing(artifact: Artifact, holes: bool) -> Iterator[Problem]:
    graph = artifact.spike_graph
    sent = _Sent(graph, np.random.default_rng(1), holes)
    delivered: _Delivered = {}
    for piece in artifact.mapped.pieces:
        want = _delivered(graph, graph.by_name[piece.name].inputs[0], 0, sent, delivered)
        got = _heard(piece, graph, artifact.tensors, sent)
        differ = int((got.ravel() != want.ravel()).sum())
        if differ:
            what = f"the synapses of {piece.name} are others than in spike.snn"
            yield _bad(artifact, "mapped.json", what, f"{differ} neurons that hear something else", 0)


def _delivered(
    graph: Graph, name: str, ago: int, sent: _Sent, known: _Delivered, held: bool = False
) -> Array:
    """Value [1, *shape] of a node of the spike graph so many micro-steps ago, or as it is held."""
    if (name, ago, held) not in known:
        match graph.by_name[name]:
            case Encode() | WindowNeuron() as node:
                value = sent.by(node, ago, held)
            case Delay() as node:
                value = _delivered(graph, node.inputs[0], ago + node.steps, sent, known, held)
            case Hold() as node:
                value = _delivered(graph, node.inputs[0], ago, sent, known, held=True)
            case node:
                value = evaluate(node, [_delivered(graph, i, ago, sent, known, held) for i in node.inputs])
        known[name, ago, held] = value
    return known[name, ago, held]


def _heard(piece: Piece, graph: Graph, tensors: Mapping[str, Array], sent: _Sent) -> Array:
    """What connections and products of a piece bring in one micro-step, [1, C, H, W]."""
    total = np.zeros((1, *piece.shape), np.int64)
    heard = []
    for c in piece.connections:
        heard.append((c, sent.by(_source(graph, c.source), c.delay)))
    opened = _opened(heard, tensors)
    for c, spikes in heard:
        delivered = _through(c, tensors[c.weight], spikes) << c.exponent
        total += delivered if c.sites is None else np.where(opened[_gate_of(c)], delivered, 0)
    for pool in piece.pools:
        spikes = sent.by(_source(graph, pool.source), pool.delay)
        total += _largest(pool, spikes)[:, :, : piece.shape[1], : piece.shape[2]]
    biases = {_gate_of(c): c.sites.bias for c in piece.connections if c.sites and c.sites.bias}
    for gate, bias in biases.items():
        total += tensors[bias].reshape(-1, 1, 1) * opened[gate]
    for p in piece.products:
        held = sent.by(_source(graph, p.held), p.held_delay, held=True)
        _multiply(p.address, held, sent.by(_source(graph, p.stream), p.stream_delay), total)
    return total


def _gate_of(c: Connection) -> str:
    """What sets the open sites of a connection: spikes, a bitmap, or nothing."""
    return "" if c.sites is None else c.sites.centre or c.sites.bitmap


def _opened(heard: list[tuple[Connection, Array]], tensors: Mapping[str, Array]) -> dict[str, Bitmap]:
    """Open sites [H, W] by gate; connections that share one open its sites together."""
    found: dict[str, Bitmap] = {}
    for c, spikes in heard:
        if c.sites is not None:
            ssc = SSC(c.address, tensors[c.sites.bitmap], bool(c.sites.centre))
            mine = ssc.opened(spikes.reshape(c.address.source_shape))
            found[_gate_of(c)] = found.get(_gate_of(c), mine) | mine
    return found


def _source(graph: Graph, name: str) -> Encode | WindowNeuron:
    """The node of the spike graph that a mapped network calls so."""
    encoders = {port: encode for encode, port in port_names(graph).items()}
    source = graph.by_name[encoders.get(name, name)]
    assert isinstance(source, Encode | WindowNeuron)
    return source


def _multiply(a: ProductAddress, held: Array, stream: Array, total: Array) -> None:
    """Add what a product makes of values [1, *shape] to the piece's ``total`` [1, C, H, W].

    One turn of the first loop at a time: all at once do not fit for large maps.
    """
    first, rest = a.sizes[0], a.sizes[1:]
    for turn in range(first):
        at = [_turn(s, turn).indices(rest).ravel() for s in (a.held, a.stream, a.target)]
        np.add.at(total.reshape(-1), at[2], held.ravel()[at[0]] * stream.ravel()[at[1]])


def _turn(at: Strided, turn: int) -> Strided:
    """The inner loops' addresses at a turn of the first loop."""
    return Strided(offset=at.offset + turn * at.strides[0], strides=at.strides[1:])


def _largest(pool: MaxOver, spikes: Array) -> Array:
    """What a maximum makes of its source's spikes."""
    node = MaxPool2d(
        name="maximum",
        kernel=pool.kernel,
        stride=pool.stride,
        padding=pool.padding,
        dilation=pool.dilation,
    )
    return evaluate(node, [spikes])


def _through(c: Connection, weight: Array, spikes: Array) -> Array:
    """What a connection makes of its source's spikes: sum pooling, upsampling, then a convolution."""
    a = c.address
    (channels, height, width), (down, right) = a.pooled_shape, a.pool
    whole = spikes.reshape(1, *a.source_shape)[:, :, : height * down, : width * right]
    pooled = whole.reshape(1, channels, height, down, width, right).sum(axis=(3, 5))
    seen = pooled.repeat(a.spread[0], axis=2).repeat(a.spread[1], axis=3)
    conv = Conv2d(
        name="synapses",
        inputs=("spikes",),
        weight=Const(weight),
        stride=a.stride,
        padding=a.padding,
        dilation=a.dilation,
        groups=a.groups,
    )
    return evaluate(conv, [seen])[:, :, : a.target_shape[1], : a.target_shape[2]]


# ---- certificate.json -------------------------------------------------------------------------------


def certificate_problems(artifact: Artifact) -> Iterator[Problem]:
    """Where the certificate is another than the graphs and the calibration inputs give (SNNC-Q004).

    For an artifact whose other parts agree.
    """
    ranges = artifact.certificate.ranges
    for at, layer in enumerate(ranges):
        covered = layer.allowed[0] <= layer.all_inputs[0] and layer.all_inputs[1] <= layer.allowed[1]
        if layer.proven != covered:
            what = f"ranges.{at}: a range is proven where it covers all inputs, and nowhere else"
            yield _bad(artifact, "certificate.json", what, layer.proven, covered)
    membranes = {r.layer: r for r in ranges if r.quantity == "membrane"}
    for sums in layer_sums(artifact.integer_graph, artifact.calibration.x):
        yield from _membrane_problems(artifact, sums, membranes.get(sums.neuron.name))
    for piece in artifact.mapped.pieces:
        yield from _watch_problems(artifact, piece)


def _membrane_problems(artifact: Artifact, sums: LayerSums, found: LayerRange | None) -> Iterator[Problem]:
    """What the integer graph and the calibration inputs say of a layer's membrane."""
    name = sums.neuron.name
    if found is None:
        yield _bad(artifact, "certificate.json", f"says nothing of the membrane of {name}", None, None)
        return
    piece = next(p for p in artifact.mapped.pieces if p.name == name)
    word = 1 << (piece.state_bits - 1)
    expected = {
        "bits": piece.state_bits,
        "word_low": -word,
        "word_high": word - 1,
        "all_inputs": sums.all_inputs,
    }
    if not artifact.host_names:  # real numbers of a host may round otherwise on another machine
        expected |= {"observed": sums.observed, "ties": sums.ties, "ties_other": sums.ties_other}
    for key, value in expected.items():
        if getattr(found, key) != value:
            where = f"{key} of the membrane of {name} is another than integer.snn gives"
            yield _bad(artifact, "certificate.json", where, getattr(found, key), value)
    lift = piece.gate.lift if piece.gate else 0
    reach = (sums.start_low - lift + found.allowed[0], sums.start_high - lift + found.allowed[1])
    if reach[0] < -word or reach[1] >= word:
        what = f"allowed sums leave the membrane's word of {name}"
        yield _bad(artifact, "certificate.json", what, reach, (-word, word - 1))


def _watch_problems(artifact: Artifact, piece: Piece) -> Iterator[Problem]:
    """What the certificate leaves open is watched in every sample."""
    mine = [r for r in artifact.certificate.ranges if r.layer == piece.name]
    open_ = [r.allowed for r in mine if r.quantity != "membrane" and not r.proven]
    if piece.admitted is not None and piece.admitted not in [r.allowed for r in mine]:
        what = f"{piece.name} admits a range that the certificate does not allow"
        yield _bad(artifact, "mapped.json", what, piece.admitted, [r.allowed for r in mine])
    if open_ and piece.admitted not in open_:
        what = f"{piece.name} does not watch the range that the certificate leaves open"
        yield _bad(artifact, "mapped.json", what, piece.admitted or "none", open_)


_STEPS = (_form_problems, _spike_problems, _mapping_problems, _synapse_problems)

"""Named checks of a mapped network against a Speck chip: every violation at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec
from snncc.ir.graph import Graph
from snncc.ir.neurons import Neuron
from snncc.ir.types import Current
from snncc.mapping.mapped import Mapped, Piece
from snncc_speck.shapes import connection_key

CHECKED = (
    "limits.threshold_max",
    "limits.kernel_max",
    "limits.padding_max",
    "limits.features_max",
    "limits.input_size_max",
    "limits.output_size_max",
    "limits.fan_out",
)
COUNTED = {"kernel_words": "SNNC-C001", "neuron_words": "SNNC-C002"}  # and what says that no core has enough


def _bits(count: int) -> int:
    """Address bits of ``count`` things: ⌈log2 count⌉."""
    return (count - 1).bit_length()


def _over(value: int, limit: int | None) -> bool:
    return limit is not None and value > limit


def kernel_words(piece: Piece, gated: bool) -> int:
    """Words: channels_in · 2^(⌈log2 kx·ky⌉ + ⌈log2 features⌉) (datasheet table 1); a gate is one channel."""
    address = piece.connections[0].address
    return _inputs(piece, gated) << (_bits(math.prod(address.kernel)) + _bits(piece.shape[0]))


def _inputs(piece: Piece, gated: bool) -> int:
    """Input features of a core, with the gate's extra one."""
    return piece.connections[0].address.source_shape[0] + (gated and not piece.is_readout)


def neuron_words(piece: Piece) -> int:
    """Words: features · 2^(⌈log2 height⌉ + ⌈log2 width⌉) (datasheet table 1)."""
    features, height, width = piece.shape
    return features << (_bits(height) + _bits(width))


def needs(mapped: Mapped, gated: bool) -> dict[str, dict[str, int]]:
    """Memory that each piece asks for, by resource of a core."""
    return {p.name: _needs(p, gated) for p in mapped.pieces}


def _needs(piece: Piece, gated: bool) -> dict[str, int]:
    return {"kernel_words": kernel_words(piece, gated), "neuron_words": neuron_words(piece)}


def outgrown(graph: Graph, chip: ChipSpec) -> Iterator[Problem]:
    """A captured network with more neuron layers than the chip has cores: no lowering makes fewer."""
    layers, cores = chip_layers(graph), len(chip.cores)
    if layers > cores:
        yield problem(
            "SNNC-C003",
            f"network {graph.name} on {chip.name}",
            "every neuron layer takes a core of its own, and there are more layers than cores",
            got=f"{layers} neuron layers",
            limit=f"{cores} cores",
            hint="--target loihi2 --partition auto (a host computes what the chip lacks), or --target sim",
        )


def chip_layers(graph: Graph) -> int:
    """Neuron layers of a float graph but those that make spikes of real values alone, as the host does."""
    real = {graph.input.name} if isinstance(graph.types[graph.input.name], Current) else set[str]()
    layers = 0
    for node in (n for n in graph.nodes if n.inputs):
        if not real.issuperset(node.inputs):
            layers += isinstance(node, Neuron)
        elif not isinstance(node, Neuron):
            real.add(node.name)
    return layers


def limit_problems(mapped: Mapped, chip: ChipSpec, gated: bool) -> Iterator[Problem]:
    """Every limit of the chip that a piece of ``mapped`` breaks, in order of the pieces."""
    if len(mapped.pieces) > len(chip.cores):
        yield problem(
            "SNNC-C003",
            f"network on {chip.name}",
            "has more spiking layers than cores",
            got=len(mapped.pieces),
            limit=len(chip.cores),
            hint="fewer layers",
        )
    for piece in mapped.pieces:
        where = f"%{piece.name}" + (f" ({piece.layer})" if piece.layer else "") + f" on {chip.name}"
        yield from _geometry(piece, chip, gated, where)
        yield from _joins(piece, where)
        yield from _repeated(piece, where)
        yield from _routes(piece, mapped, chip, where)
        yield from _memory(piece, chip, gated, where)
        if piece.cell.theta > threshold_limit(chip):
            yield problem(
                "SNNC-C009",
                where,
                "threshold leaves its range",
                got=piece.cell.theta,
                limit=threshold_limit(chip),
            )


def threshold_limit(chip: ChipSpec) -> int:
    """Largest threshold that can be set, and over which one control event (at most 127) fits the membrane."""
    limits = chip.limits
    fits = int(2 ** (limits.state_bits - 1) - 2 ** (limits.weight_bits - 1))
    return fits if limits.threshold_max is None else min(fits, limits.threshold_max)


def _geometry(piece: Piece, chip: ChipSpec, gated: bool, where: str) -> Iterator[Problem]:
    limits = chip.limits
    for address in dict.fromkeys(c.address for c in piece.connections):
        if _over(max(address.kernel), limits.kernel_max):
            yield problem(
                "SNNC-C005",
                where,
                "kernel is too large",
                got=f"{address.kernel[0]}x{address.kernel[1]}",
                limit=f"{limits.kernel_max}x{limits.kernel_max}",
                hint="pooling or stride before this layer",
            )
        for stride in sorted(set(address.stride) - set(limits.strides)):
            yield problem(
                "SNNC-C006", where, "stride cannot be configured", got=stride, limit=_list(limits.strides)
            )
        if _over(max(address.padding), limits.padding_max):
            yield problem(
                "SNNC-C006", where, "padding is too large", got=max(address.padding), limit=limits.padding_max
            )
        if _over(max(address.pooled_shape[1:]), limits.input_size_max):
            yield problem(
                "SNNC-C007",
                where,
                "input map is too large",
                got=_size(address.pooled_shape),
                limit=f"{limits.input_size_max}x{limits.input_size_max}",
            )
        if _over(_inputs(piece, gated), limits.features_max):
            yield problem(
                "SNNC-C007",
                where,
                "has too many input features",
                got=_inputs(piece, gated),
                limit=limits.features_max,
            )
    if _over(max(piece.shape[1:]), limits.output_size_max):
        yield problem(
            "SNNC-C007",
            where,
            "output map is too large",
            got=_size(piece.shape),
            limit=f"{limits.output_size_max}x{limits.output_size_max}",
        )
    if _over(piece.shape[0], limits.features_max):
        yield problem(
            "SNNC-C007", where, "has too many features", got=piece.shape[0], limit=limits.features_max
        )


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[2]}"


def _joins(piece: Piece, where: str) -> Iterator[Problem]:
    keys = {connection_key(c) for c in piece.connections}
    if len(keys) > 1:
        sources = ", ".join(f"%{c.source}" for c in piece.connections)
        yield problem(
            "SNNC-C012",
            where,
            "its inputs go through different kernels, and a core has one",
            got=sources,
            hint="adding spikes before one convolution, not currents behind several",
        )


def _repeated(piece: Piece, where: str) -> Iterator[Problem]:
    sources = [(c.source, c.address.pool) for c in piece.connections]
    for source in sorted({route[0] for route in sources if sources.count(route) > 1}):
        yield problem(
            "SNNC-C012",
            where,
            "the same spikes reach it twice, and a core sends an event once",
            got=f"%{source}",
            hint="doubled weights in place of a sum with itself",
        )


def _routes(piece: Piece, mapped: Mapped, chip: ChipSpec, where: str) -> Iterator[Problem]:
    limits = chip.limits
    for c in piece.connections:
        if c.source in mapped.ports:
            continue  # the host pools input events itself
        pool = c.address.pool
        if pool[0] != pool[1] or pool[0] not in limits.poolings:
            yield problem(
                "SNNC-C006",
                where,
                f"pooling behind %{c.source} cannot be configured",
                got=f"{pool[0]}x{pool[1]}",
                limit=_list(limits.poolings),
            )
        elif c.address.source_shape[1] % pool[0] or c.address.source_shape[2] % pool[1]:
            yield problem(
                "SNNC-C006",
                where,
                f"pooling behind %{c.source} leaves a rest, whose events would fall outside the map",
                got=f"{_size(c.address.source_shape)} by {pool[0]}",
                hint="a map whose sides the pooling divides",
            )
    readers = {
        (p.name, c.address.pool) for p in mapped.pieces for c in p.connections if c.source == piece.name
    }
    if limits.fan_out is not None and len(readers) > limits.fan_out:
        yield problem("SNNC-C008", where, "feeds too many layers", got=len(readers), limit=limits.fan_out)


def _memory(piece: Piece, chip: ChipSpec, gated: bool, where: str) -> Iterator[Problem]:
    for resource, words in _needs(piece, gated).items():
        per_core = {i: c.resources[resource].limit for i, c in chip.cores.items()}
        most = max(per_core.values())
        if words > most:
            holders = _list(tuple(i for i, n in per_core.items() if n == most))
            yield problem(
                COUNTED[resource],
                where,
                f"needs more {resource.replace('_', ' ')} than any core has",
                got=f"{words:,}",
                limit=f"{most:,} (cores {holders})",
                hint="fewer channels, or a smaller map in front of it",
            )

"""Independent rules of products of spikes; shares no code with what derives their addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec
from snncc.ir.schedule import Engine, Release
from snncc.mapping.mapped import InputPort, Mapped, Piece
from snncc.mapping.product import Product, Strided


def product_problems(mapped: Mapped, chip: ChipSpec) -> Iterator[Problem]:
    """Every rule (SNNC-X001) that a product of a mapped network breaks."""
    before: dict[str, InputPort | Piece] = dict(mapped.ports)
    for piece in mapped.pieces:
        if piece.products and not (piece.on_host or chip.abilities.multiplies_counts):
            yield _bad(piece, "multiplies spikes, which the chip cannot")
        if piece.products and not (
            mapped.engine is Engine.CLOCKED and mapped.schedule.release is Release.WINDOW
        ):
            yield _bad(piece, "multiplies spikes outside of windows")
        for product in piece.products:
            missing = [name for name in (product.held, product.stream) if name not in before]
            for name in missing:
                yield _bad(piece, "multiplies a source that does not stand before it", got=name)
            if not missing:
                yield from _shape_problems(piece, product, before)
                yield from _time_problems(mapped, piece, product, before)
            yield from _loop_problems(piece, product)
        before[piece.name] = piece


def _bad(piece: Piece, what: str, got: object = None, limit: object = None) -> Problem:
    return problem("SNNC-X001", f"mapping of {piece.name}", what, got=got, limit=limit)


def _shape_problems(
    piece: Piece, product: Product, before: Mapping[str, InputPort | Piece]
) -> Iterator[Problem]:
    a = product.address
    pairs = (
        ("held source", a.held_shape, before[product.held].shape),
        ("stream", a.stream_shape, before[product.stream].shape),
        ("piece", a.target_shape, piece.shape),
    )
    for what, got, limit in pairs:
        if got != limit:
            yield _bad(piece, f"a product's address does not fit its {what}", got=got, limit=limit)


def _time_problems(
    mapped: Mapped, piece: Piece, product: Product, before: Mapping[str, InputPort | Piece]
) -> Iterator[Problem]:
    """Both operands' windows are the one in front of the piece's own; what is held comes at once."""
    due = piece.phase - mapped.micro_steps
    operands = (("held", product.held, product.held_delay), ("stream", product.stream, product.stream_delay))
    for what, name, delay in operands:
        source = before[name]
        starts = (0 if isinstance(source, InputPort) else source.phase) + delay
        if starts != due or starts % mapped.micro_steps:
            yield _bad(piece, f"a product's {what} operand comes in another window", got=starts, limit=due)
    source = before[product.held]
    most = source.levels if isinstance(source, InputPort) else source.cell.max_spikes
    if not source.graded and most > 1:
        yield _bad(piece, "a product holds a train of several spikes", got=most, limit=1)
    for name in (product.held, product.stream):
        source = before[name]
        if isinstance(source, Piece) and source.cell.is_readout:
            yield _bad(piece, "a product reads membranes", got=name)


def _loop_problems(piece: Piece, product: Product) -> Iterator[Problem]:
    """An event stands at one place in the loops that its address walks along, and nothing leaves its map."""
    a = product.address
    maps = ((a.held, a.held_shape), (a.stream, a.stream_shape), (a.target, a.target_shape))
    for at, (channels, height, width) in maps:
        top = at.offset + sum(s * (n - 1) for s, n in zip(at.strides, a.sizes, strict=True))
        if min(at.offset, *at.strides) < 0 or top >= channels * height * width:
            got, limit = (at.offset, top), channels * height * width - 1
            yield _bad(piece, "a product's address leaves its map", got=got, limit=limit)
    if not _places_once(a.stream, a.sizes):
        what = "an event stands at several places of a product's loops"
        yield _bad(piece, what, got=a.stream.strides, limit=a.sizes)


def _places_once(at: Strided, sizes: tuple[int, ...]) -> bool:
    """Whether no two positions along the loops that it walks share an index."""
    reach = 0
    for stride, size in sorted((s, n) for s, n in zip(at.strides, sizes, strict=True) if s > 0 and n > 1):
        if stride <= reach:
            return False
        reach += stride * (size - 1)
    return True

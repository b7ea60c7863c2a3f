"""Figures as inline SVG, drawn here so that the page needs no script. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from snncc.hw.spec import ChipSpec, CoreKind
from snncc.ir.const import values_of
from snncc.mapping.mapped import Connection, InputPort, Mapped, Piece
from snncc.mapping.utilisation import Use, Utilisation, UtilisationRow
from snncc.reporting.cost import component, joules
from snncc.reporting.numbers import percent, plural, shape, shown

if TYPE_CHECKING:
    from snncc.simulation import Cost, Energy

BOX_WIDTH, BOX_HEIGHT = 400, 70
GAP_X, GAP_Y = 28, 38
SIDE = 22  # distance between two edges that run beside the boxes


def _text(x: float, y: float, words: str, css: str, limit: int = 200, anchor: str = "start") -> Markup:
    """A line of text, cut to ``limit`` characters; the whole of it shows on hover."""
    whole = shown(words)
    cut = whole if len(whole) <= limit else whole[: limit - 1] + "…"
    title = Markup("<title>{}</title>").format(whole) if cut != whole else ""
    form = Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}{}</text>')
    return form.format(x, y, css, anchor, title, cut)


def _rect(x: float, y: float, width: float, height: float, css: str, radius: float = 0) -> Markup:
    form = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="{}" class="{}"/>')
    return form.format(x, y, max(width, 0.0), height, radius, css)


def _svg(width: float, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" role="img" aria-label="{}">')
    return head.format(width, height, width, label) + Markup("").join(parts) + Markup("</svg>")


# ---- the network ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where a box stands."""

    x: float
    y: float
    depth: int

    @property
    def middle(self) -> float:
        return self.x + BOX_WIDTH / 2


def _places(mapped: Mapped) -> dict[str, _Place]:
    """One row for each depth, its boxes centred."""
    depth = dict.fromkeys(mapped.ports, 0)
    for piece in mapped.pieces:
        depth[piece.name] = 1 + max(depth[source] for source in piece.sources)
    rows: dict[int, list[str]] = {}
    for name, level in depth.items():
        rows.setdefault(level, []).append(name)
    widest = max(len(names) for names in rows.values())
    places = {}
    for level, names in rows.items():
        start = (widest - len(names)) * (BOX_WIDTH + GAP_X) / 2
        for index, name in enumerate(names):
            places[name] = _Place(
                1 + start + index * (BOX_WIDTH + GAP_X), 1 + level * (BOX_HEIGHT + GAP_Y), level
            )
    return places


def network_svg(mapped: Mapped, found: Utilisation) -> Markup:
    """The pieces from input to result, each with its cores and what it takes most of on one of them."""
    places = _places(mapped)
    right = max(p.x for p in places.values()) + BOX_WIDTH
    edges = [(*e, p.name) for p in mapped.pieces for e in _edges(p)]
    beside = [e for e in edges if places[e[2]].depth - places[e[0]].depth > 1]
    parts = [_edge(e[1], places[e[0]], places[e[2]]) for e in edges if e not in beside]
    parts += [_bow(places[e[0]], places[e[2]], right + SIDE * (i + 1)) for i, e in enumerate(beside)]
    parts += [_input_box(mapped, port, places[name]) for name, port in mapped.ports.items()]
    parts += [_piece_box(row, places[row.piece.name]) for row in found.rows]
    parts += [_host_box(piece, places[piece.name]) for piece in mapped.on_host]
    bottom = max(p.y for p in places.values()) + BOX_HEIGHT
    parts.append(_result(mapped, places[mapped.output.piece], bottom))
    width = right + max(SIDE * (len(beside) + 1), 60)  # room for the words beside an edge
    return _svg(width, bottom + 52, "the network on the chip, from input to result", parts)


def _curve(x0: float, y0: float, x1: float, y1: float, x2: float, y2: float, x3: float, y3: float) -> Markup:
    """A Bézier curve from its four points."""
    points = f"M{x0:.1f} {y0:.1f}C{x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f} {x3:.1f} {y3:.1f}"
    return Markup('<path d="{}" class="edge"/>').format(points)


def _edges(piece: Piece) -> Iterator[tuple[str, str]]:
    """What a piece hears of each source, in words."""
    for c in piece.connections:
        yield c.source, _synapses(c)
    for p in piece.products:
        yield p.held, _late("held", p.held_delay)
        yield p.stream, _late("times what is held", p.stream_delay)


def _late(words: str, delay: int) -> str:
    return f"{words}, delay {delay}" if delay else words


def _edge(words: str, source: _Place, target: _Place) -> Markup:
    start, end = source.y + BOX_HEIGHT, target.y
    bend = (start + end) / 2
    line = _curve(source.middle, start, source.middle, bend, target.middle, bend, target.middle, end)
    x = (source.middle + target.middle) / 2 + 10
    return line + _text(x, bend + 4, words, "dim s", 38)


def _bow(source: _Place, target: _Place, x: float) -> Markup:
    """An edge that passes rows, beside the boxes."""
    top, bottom = source.y + BOX_HEIGHT / 2, target.y + BOX_HEIGHT / 2
    return _curve(source.x + BOX_WIDTH, top, x, top, x, bottom, target.x + BOX_WIDTH, bottom)


def _synapses(connection: Connection) -> str:
    """What lies between two boxes, in words."""
    a = connection.address
    words = []
    if a.pool != (1, 1):
        words.append(f"sum pool {shape(a.pool)}")
    if a.spread != (1, 1):
        words.append(f"upsampled {shape(a.spread)}")
    if a.target_shape[1:] == (1, 1) and a.kernel == a.seen_shape[1:]:
        words.append("fully connected")
    else:
        words.append(f"{shape(a.kernel)} kernel")
        words += [f"stride {_pair(a.stride)}"] if a.stride != (1, 1) else []
        words += [f"padding {_pair(a.padding)}"] if a.padding != (0, 0) else []
        words += [f"{a.groups} groups"] if a.groups > 1 else []
    if connection.delay:
        words.append(f"delay {connection.delay}")
    return ", ".join(words)


def _pair(sizes: tuple[int, int]) -> str:
    return str(sizes[0]) if sizes[0] == sizes[1] else shape(sizes)


def _input_box(mapped: Mapped, port: InputPort, at: _Place) -> Markup:
    levels = "spikes" if port.levels == 1 else f"spike counts {port.least}…{port.levels}"
    steps = f", {plural(mapped.steps, 'timestep')}" if mapped.steps > 1 else ""
    lines = _text(at.middle, at.y + 32, port.name, "ink b", anchor="middle")
    lines += _text(at.middle, at.y + 50, f"{shape(port.shape)} {levels}{steps}", "dim", 60, "middle")
    return _rect(at.x, at.y, BOX_WIDTH, BOX_HEIGHT, "port", 35) + lines


def _piece_box(row: UtilisationRow, at: _Place) -> Markup:
    numbers = ", ".join(map(str, row.cores))
    cores = f"core{'s' * (len(row.cores) > 1)} {numbers}" if row.cores else "no core"
    parts = [_box(row.piece, cores, at, "box")]
    for column, (resource, use) in enumerate(_fullest(row)):
        parts.append(_gauge(at.x + 14 + column * (BOX_WIDTH / 2 - 7), at.y + 56, resource, use))
    return Markup("").join(parts)


def _host_box(piece: Piece, at: _Place) -> Markup:
    return _box(piece, "on the host", at, "port")


def _box(piece: Piece, where: str, at: _Place, kind: str) -> Markup:
    about = f"{shape(piece.shape)} · {_role(piece)}" + (f" · {piece.layer}" if piece.layer else "")
    parts = [
        _rect(at.x, at.y, BOX_WIDTH, BOX_HEIGHT, kind, 8),
        _text(at.x + 14, at.y + 22, piece.name, "ink b", 30),
        _text(at.x + BOX_WIDTH - 14, at.y + 22, where, "accent b", 20, anchor="end"),
        _text(at.x + 14, at.y + 40, about, "dim", 54),
    ]
    return Markup("").join(parts)


def _fullest(row: UtilisationRow, most: int = 2) -> list[tuple[str, Use]]:
    """The resources of which a layer takes the largest shares, in the order of the chip's description."""
    chosen = sorted(row.most, key=lambda r: -row.most[r].share)[:most]
    return [(r, use) for r, use in row.most.items() if r in chosen]


def _role(piece: Piece) -> str:
    if piece.is_readout:
        return "membrane read out"
    gate = f", {plural(piece.gate.rounds, 'release')}" if piece.gate else ""
    theta = values_of(piece.cell.threshold)
    several = f"s {theta.min():,} to {theta.max():,}" if theta.ndim else f" {theta:,}"
    return f"threshold{several}{gate}"


def _gauge(x: float, y: float, resource: str, use: Use) -> Markup:
    """A bar of how much of a resource is used."""
    label = _text(x, y + 4, resource.replace("_", " "), "dim s", 14)
    track = _rect(x + 78, y - 3, 44, 7, "track", 3)
    track += _rect(x + 78, y - 3, 44 * min(use.share, 1.0), 7, "fill", 3)
    return label + track + _text(x + 128, y + 4, percent(use.share, 0), "dim s")


def _result(mapped: Mapped, source: _Place, bottom: float) -> Markup:
    what = {"count": "spike counts", "membrane": "membrane potentials"}.get(
        mapped.output.decode.value, "values"
    )
    path = Markup('<path d="M{0:.1f} {1:.1f}V{2:.1f}" class="edge"/>').format(
        source.middle, source.y + BOX_HEIGHT, bottom + 26
    )
    return path + _text(source.middle, bottom + 44, f"result: {what}", "ink b", anchor="middle")


# ---- the chip ---------------------------------------------------------------------------------------

CELL_WIDTH, CELL_HEIGHT, CELL_GAP = 176, 92, 8


def floor_svg(chip: ChipSpec, found: Utilisation) -> Markup:
    """Every core of a chip and how full it is; empty markup for a mesh, or without cores."""
    if not chip.cores or chip.mesh is not None:
        return Markup("")
    holders = {core: row for row in found.rows for core in row.cores}
    across = min(3 if len(chip.cores) <= 9 else math.ceil(math.sqrt(len(chip.cores))), len(chip.cores))
    parts = []
    for index, (core, kind) in enumerate(chip.cores.items()):
        x = 1 + (index % across) * (CELL_WIDTH + CELL_GAP)
        y = 1 + (index // across) * (CELL_HEIGHT + CELL_GAP)
        row = holders.get(core)
        parts.append(_rect(x, y, CELL_WIDTH, CELL_HEIGHT, "box" if row else "box idle", 8))
        parts.append(_text(x + 12, y + 22, f"core {core}", "accent b" if row else "dim b"))
        parts.append(_text(x + 12, y + 40, row.piece.name if row else "unused", "ink" if row else "dim", 19))
        parts += _held(x + 12, y + 58, row) if row else _free(x + 12, y + 62, kind)
    down = math.ceil(len(chip.cores) / across)
    width = across * (CELL_WIDTH + CELL_GAP) - CELL_GAP + 2
    return _svg(width, down * (CELL_HEIGHT + CELL_GAP) - CELL_GAP + 2, f"cores of {chip.name}", parts)


def _held(x: float, y: float, row: UtilisationRow) -> Iterator[Markup]:
    for line, (resource, use) in enumerate(_fullest(row)):
        yield _gauge(x, y + 17 * line, resource, use)


def _free(x: float, y: float, kind: CoreKind) -> Iterator[Markup]:
    for line, (resource, bound) in enumerate(list(kind.resources.items())[:2]):
        yield _text(x, y + 16 * line, f"{bound.limit:,} {resource.replace('_', ' ')}", "dim s", 24)


# ---- energy -----------------------------------------------------------------------------------------

BAR_WIDTH, BAR_HEIGHT = 640, 22


def energy_svg(cost: Cost) -> Markup:
    """A stacked bar for each named model, on one axis, with the band of the total."""
    energies = [e for e in cost.energy if e.total_nj.high > 0]
    if not energies:
        return Markup("")
    top = max(e.total_nj.high for e in energies)
    names = dict.fromkeys(c.name for e in energies for c in e.components if c.energy_nj.high > 0)
    colours = {name: i % 6 for i, name in enumerate(names)}
    parts = [_bar(e, 4 + 62.0 * i, (BAR_WIDTH - 20) / top, colours) for i, e in enumerate(energies)]
    legend, height = _legend(colours, 4 + 62.0 * len(energies))
    return _svg(BAR_WIDTH, height, "energy of a sample by component", [*parts, *legend])


def _bar(energy: Energy, y: float, scale: float, colours: dict[str, int]) -> Markup:
    parts = [_text(0, y + 14, energy.model, "ink b", 30), _text(90, y + 14, joules(energy.total_nj), "dim")]
    x = 0.0
    for part in (c for c in energy.components if c.name in colours):
        width = part.energy_nj.value * scale
        tip = f"{component(part.name)}: {joules(part.energy_nj)}"
        form = Markup("<g><title>{}</title>{}</g>")
        parts.append(form.format(tip, _rect(x, y + 22, width, BAR_HEIGHT, f"c{colours[part.name]}")))
        x += width
    total = energy.total_nj
    if total.low != total.high:
        low, high, middle = total.low * scale, total.high * scale, y + 22 + BAR_HEIGHT / 2
        path = (
            f"M{low:.1f} {middle - 6:.1f}v12M{low:.1f} {middle:.1f}H{high:.1f}M{high:.1f} {middle - 6:.1f}v12"
        )
        parts.append(Markup('<path d="{}" class="whisker"/>').format(path))
    return Markup("").join(parts)


def _legend(colours: dict[str, int], y: float) -> tuple[list[Markup], float]:
    parts: list[Markup] = []
    x = 0.0
    for name, colour in colours.items():
        label = component(name)
        width = 34 + 6.4 * len(label)
        if x + width > BAR_WIDTH:
            x, y = 0.0, y + 20
        parts.append(_rect(x, y, 12, 12, f"c{colour}", 2) + _text(x + 18, y + 10.5, label, "dim s"))
        x += width
    return parts, y + 20

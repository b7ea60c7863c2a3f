"""Mapped networks for Loihi tests: the published shapes of Intel's logs, MobileNet, random small ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import snncc_loihi
from simulator.simnets import Net, Way
from snncc.hw.spec import ChipSpec, load_chip
from snncc.mapping.mapped import Mapped
from snncc.mapping.utilisation import Utilisation, utilisation_of
from snncc_loihi.check import core_use
from snncc_loihi.partition import partition, tiles_of

FOLDER = Path(next(iter(snncc_loihi.__path__)))


def chip(name: str, **limits: int) -> ChipSpec:
    """A chip as its file describes it, with other limits: of cores, where it has the resource, or its own."""
    spec = load_chip(FOLDER / f"{name}.toml")
    (kind,) = spec.core_kinds
    resources = {r: b.model_copy(update={"limit": limits.get(r, b.limit)}) for r, b in kind.resources.items()}
    others = {name: value for name, value in limits.items() if name in type(spec.limits).model_fields}
    kinds = (kind.model_copy(update={"resources": resources}),)
    return spec.model_copy(update={"core_kinds": kinds, "limits": spec.limits.model_copy(update=others)})


def without_cores(spec: ChipSpec) -> ChipSpec:
    """The chip for networks that are not placed."""
    return spec.model_copy(update={"mesh": None, "core_kinds": ()})


def cut(net: Mapped, spec: ChipSpec) -> Utilisation:
    """What the network's blocks take of their cores, placed in row-major order."""
    placed = net.model_copy(update={"tiles": tiles_of(net, partition(net, spec))})
    return utilisation_of(placed, spec, core_use(placed, spec))


def boards(spec: ChipSpec, chips: int) -> ChipSpec:
    """The chip in a system of another number of chips."""
    assert spec.mesh is not None
    return spec.model_copy(update={"mesh": spec.mesh.model_copy(update={"chips": chips})})


def loihi(net: Net) -> Mapped:
    """A network's pieces as the Loihi target makes them: membranes of 24 bits."""
    mapped = net.mapped()
    pieces = [p.model_copy(update={"state_bits": 24}) for p in mapped.pieces]
    return mapped.model_copy(update={"pieces": tuple(pieces)})


def raised(mapped: Mapped, **exponents: int) -> Mapped:
    """The network with these exponents before the weights of each connection of the pieces of these names."""
    pieces = tuple(
        p.model_copy(
            update={
                "connections": tuple(
                    c.model_copy(update={"exponent": exponents.get(p.name, 0)}) for c in p.connections
                )
            }
        )
        for p in mapped.pieces
    )
    return mapped.model_copy(update={"pieces": pieces})


def chain(shape: tuple[int, int, int], *layers: tuple[int, Way]) -> Mapped:
    """Layers in a row, named a, b, c, ...; each (channels, way)."""
    net = Net(shape, levels=1, period=2, weight_range=(-4, 5))
    source = "input"
    for i, (channels, way) in enumerate(layers):
        name = chr(ord("a") + i) if len(layers) <= 26 else f"l{i}"
        made = Way(**{**way.__dict__, "source": source})
        net.layer(name, channels, made, threshold=20, max_spikes=1, phase=2 * i + 2)
        source = name
    return loihi(net)


def _conv(stride: tuple[int, int] = (2, 2), padding: tuple[int, int] = (0, 0), **way: Any) -> Way:
    return Way(stride=stride, padding=padding, **way)


DENSE = Way(kernel=None)


def pilotnet() -> Mapped:
    """Intel's PilotNet SNN; the first layer is its block of input neurons, one synapse each."""
    return chain(
        (3, 66, 200),
        (3, Way(kernel=(1, 1), groups=3)),
        (24, _conv()),
        (36, _conv()),
        (48, _conv()),
        (64, _conv((2, 1), (1, 0))),
        (64, _conv((1, 1))),
        (100, DENSE),
        (50, DENSE),
        (10, DENSE),
        (1, DENSE),
    )


def yolo_kp() -> Mapped:
    """Intel's YOLO-KP."""
    same, half = _conv((1, 1), (1, 1)), _conv((2, 2), (1, 1))
    point = Way(kernel=(1, 1))
    widths = ((16, half), (32, half), (64, half), (128, half), (256, same), (256, half))
    return chain((3, 448, 448), *widths, (512, same), (256, point), (512, same), (48, point))


def mobilenet(size: int, classes: int = 1000, width: float = 1.0) -> Mapped:
    """MobileNet v1 (Howard et al. 2017, Table 1): 28 layers and, in front of the last, spiking pooling."""
    layers: list[tuple[int, Way]] = [(int(32 * width), _conv((2, 2), (1, 1)))]
    channels = int(32 * width)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    outputs = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    for stride, out in zip(strides, outputs, strict=True):
        layers.append((channels, _conv((stride, stride), (1, 1), groups=channels)))
        channels = int(out * width)
        layers.append((channels, Way(kernel=(1, 1))))
    final = -(-size // 32)
    layers.append((channels, Way(kernel=(final, final), groups=channels)))
    return chain((3, size, size), *layers, (classes, DENSE))


@st.composite
def networks(draw: st.DrawFn) -> Mapped:
    """Random small networks: convolutions (grouped, strided, dilated, delayed), branches, linear ends."""
    shape = tuple(draw(st.integers(1, n)) for n in (4, 9, 11))
    net = Net((shape[0], shape[1], shape[2]), levels=1, period=2, seed=draw(st.integers(0, 99)))
    names, flat = ["input"], set[str]()
    for i in range(draw(st.integers(1, 4))):
        source = draw(st.sampled_from(names))
        c, h, w = net.shapes[source]
        linear = source in flat or (draw(st.booleans()) and draw(st.booleans()))
        groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if c % g == 0]))
        channels = groups * draw(st.integers(1, 9))
        kernel = (draw(st.integers(1, min(3, h))), draw(st.integers(1, min(3, w))))
        way = Way(
            source,
            kernel=None if linear else kernel,
            stride=(1, 1) if linear else (draw(st.integers(1, 3)), draw(st.integers(1, 2))),
            padding=(0, 0) if linear else (draw(st.integers(0, 1)), draw(st.integers(0, 2))),
            groups=1 if linear else groups,
            delay=draw(st.sampled_from([0, 0, 3])),
        )
        if not linear and min(net.output_size(way)) < 1:
            continue
        ways = [way]
        if draw(st.booleans()):
            ways.append(Way(**{**way.__dict__, "weight": None}))
        net.layer(f"n{i}", channels, *ways, threshold=9, max_spikes=1, phase=2)
        names.append(f"n{i}")
        flat |= {f"n{i}"} if linear else set()
    if len(names) == 1:
        net.layer("n", 3, Way(kernel=None), threshold=9, max_spikes=1, phase=2)
    return loihi(net)

"""Limits of a Speck layer at their edge: the largest that passes, and what one more is told."""

from __future__ import annotations

import pytest

from cells import renumbered
from simulator.simnets import Net, Way
from snncc.hw.spec import ChipSpec
from snncc.mapping.mapped import Mapped
from snncc_speck import SPECK2F
from snncc_speck.limits import kernel_words, limit_problems, needs, neuron_words, threshold_limit

CHIP = SPECK2F.chip


def layer(shape: tuple[int, int, int], channels: int, *ways: Way) -> Mapped:
    made = Net(shape)
    made.layer("a", channels, *ways, threshold=20, max_spikes=3)
    return made.mapped()


def told(mapped: Mapped, chip: ChipSpec = CHIP, gated: bool = True) -> list[str]:
    return [f"[{p.code}] {p}" for p in limit_problems(mapped, chip, gated)]


def one(code: str, text: str) -> list[str]:
    return [f"[{code}] %a (a) on speck2f: {text}"]


POINT = Way(kernel=(1, 1))


@pytest.mark.parametrize(("mapped", "texts"), [
    (layer((1, 16, 16), 1, Way(kernel=(16, 16))), []),
    (layer((1, 17, 17), 1, Way(kernel=(17, 17))), one("SNNC-C005", "kernel is too large, got 17x17, limit 16x16. Try pooling or stride before this layer.")),
    (layer((1, 16, 17), 1, Way(kernel=(2, 17))), one("SNNC-C005", "kernel is too large, got 2x17, limit 16x16. Try pooling or stride before this layer.")),
    (layer((1, 9, 9), 1, Way(kernel=(1, 1), stride=(8, 4))), []),
    (layer((1, 9, 9), 1, Way(kernel=(1, 1), stride=(3, 5))), [
        *one("SNNC-C006", "stride cannot be configured, got 3, limit 1, 2, 4, 8."),
        *one("SNNC-C006", "stride cannot be configured, got 5, limit 1, 2, 4, 8."),
    ]),
    (layer((1, 9, 9), 1, Way(kernel=(15, 3), padding=(7, 1))), []),
    (layer((1, 9, 9), 1, Way(kernel=(3, 16), padding=(1, 8))), one("SNNC-C006", "padding is too large, got 8, limit 7.")),
    (layer((1, 128, 1), 1, Way(kernel=(1, 1), stride=(2, 1))), []),
    (layer((1, 1, 129), 1, Way(kernel=(1, 1), stride=(1, 4))), one("SNNC-C007", "input map is too large, got 1x129, limit 128x128.")),
    (layer((1, 1, 129), 1, Way(kernel=(1, 1), stride=(1, 2), pool=(1, 2))), []),
    (layer((1, 64, 2), 1, POINT), []),
    (layer((1, 2, 65), 1, POINT), one("SNNC-C007", "output map is too large, got 2x65, limit 64x64.")),
    (layer((1, 1, 1), 1024, POINT), []),
    (layer((1, 1, 1), 1025, POINT), one("SNNC-C007", "has too many features, got 1025, limit 1024.")),
    (layer((1023, 1, 1), 1, POINT), []),
    (layer((1024, 1, 1), 1, POINT), one("SNNC-C007", "has too many input features, got 1025, limit 1024.")),
], ids=lambda v: v.pieces[0].connections[0].address.model_dump_json()[:60] if isinstance(v, Mapped) else "")  # fmt: skip
def test_the_geometry_of_a_layer(mapped: Mapped, texts: list[str]) -> None:
    assert told(mapped) == texts


def test_the_gates_feature_is_a_feature_of_spiking_layers_in_gated_schedules() -> None:
    mapped = layer((1024, 1, 1), 1, POINT)
    assert told(mapped, gated=False) == []
    readout = mapped.model_copy(update={"pieces": (renumbered(mapped.pieces[0], max_spikes=0),)})
    assert told(readout) == []
    piece = layer((4, 6, 5), 5, Way(kernel=(3, 3))).pieces[0]
    # 5 features take 3 bits, 9 taps 4; 4 rows 2, 3 columns 2; with a gate 5 inputs, without it 4.
    assert (kernel_words(piece, True), kernel_words(piece, False), neuron_words(piece)) == (640, 512, 80)


@pytest.mark.parametrize(("features", "kernel", "words"), [
    (1, (1, 1), 1), (2, (1, 1), 2), (3, (1, 1), 4), (4, (2, 1), 8), (5, (2, 1), 16), (8, (3, 3), 128), (9, (3, 3), 256),
])  # fmt: skip
def test_words_of_a_kernel_fill_up_to_powers_of_two(
    features: int, kernel: tuple[int, int], words: int
) -> None:
    mapped = layer((3, 4, 4), features, Way(kernel=kernel))
    assert kernel_words(mapped.pieces[0], False) == 3 * words
    assert {name: n["kernel_words"] for name, n in needs(mapped, gated=True).items()} == {"a": 4 * words}


def memories(**words: int) -> ChipSpec:
    kind = CHIP.cores[3]
    resources = {r: b.model_copy(update={"limit": words[r]}) for r, b in kind.resources.items()}
    two = kind.model_copy(update={"ids": (3, 4), "resources": resources})
    return CHIP.model_copy(update={"core_kinds": (two,)})


def test_the_largest_memory_of_any_core() -> None:
    """4 · 2^(4 + 3) = 512 kernel words with the gate, 5 · 2^(2 + 2) = 80 neuron words."""
    mapped = layer((3, 6, 5), 5, Way(kernel=(3, 3)))
    hint = "Try fewer channels, or a smaller map in front of it."
    assert told(mapped, memories(kernel_words=512, neuron_words=80)) == []
    assert told(mapped, memories(kernel_words=511, neuron_words=79)) == [
        *one(
            "SNNC-C001", f"needs more kernel words than any core has, got 512, limit 511 (cores 3, 4). {hint}"
        ),
        *one(
            "SNNC-C002", f"needs more neuron words than any core has, got 80, limit 79 (cores 3, 4). {hint}"
        ),
    ]


def test_a_threshold_leaves_room_for_one_control_event() -> None:
    assert threshold_limit(CHIP) == 2**15 - 2**7
    mapped = layer((1, 1, 1), 1, POINT)

    def with_threshold(theta: int) -> Mapped:
        return mapped.model_copy(update={"pieces": (renumbered(mapped.pieces[0], threshold=theta),)})

    assert told(with_threshold(32640)) == []
    assert told(with_threshold(32641)) == one(
        "SNNC-C009", "threshold leaves its range, got 32641, limit 32640."
    )


def chain(*ways: Way, shape: tuple[int, int, int] = (2, 8, 8)) -> Mapped:
    """a, and behind it one layer for each way, all of which read it."""
    net = Net(shape)
    net.layer("a", 2, POINT, threshold=20, max_spikes=3)
    for name, way in zip("bcdefghij", ways, strict=False):
        net.layer(name, 2, Way(**{**way.__dict__, "source": "a"}), threshold=20, max_spikes=3)
    return net.mapped()


def test_poolings_behind_a_layer() -> None:
    def pooled(pool: tuple[int, int], shape: tuple[int, int, int] = (2, 8, 8)) -> list[str]:
        return told(chain(Way(kernel=(1, 1), pool=pool), shape=shape))

    assert [pooled(p) for p in ((1, 1), (2, 2), (4, 4))] == [[], [], []]
    text = "[SNNC-C006] %b (b) on speck2f: pooling behind %a cannot be configured, got {}, limit 1, 2, 4."
    assert pooled((3, 3)) == [text.format("3x3")]
    assert pooled((2, 4)) == [text.format("2x4")]
    assert pooled((8, 8)) == [text.format("8x8")]
    rest = "[SNNC-C006] %b (b) on speck2f: pooling behind %a leaves a rest, whose events would fall outside the map, got {} by {}. Try a map whose sides the pooling divides."
    assert pooled((2, 2), (2, 7, 8)) == [rest.format("7x8", 2)]
    assert pooled((4, 4), (2, 8, 6)) == [rest.format("8x6", 4)]
    # The host pools what enters the chip, however it likes.
    assert told(layer((2, 9, 9), 2, Way(kernel=(1, 1), pool=(3, 2)))) == []


def test_destinations_of_a_layer() -> None:
    assert told(chain(POINT, POINT)) == []
    assert told(chain(POINT, POINT, POINT)) == one("SNNC-C008", "feeds too many layers, got 3, limit 2.")
    unlimited = CHIP.limits.model_copy(update={"fan_out": None})
    assert told(chain(POINT, POINT, POINT), CHIP.model_copy(update={"limits": unlimited})) == []


def test_what_a_chip_leaves_open_is_no_limit() -> None:
    names = ("kernel_max", "padding_max", "features_max", "input_size_max", "output_size_max", "fan_out")
    unlimited = CHIP.limits.model_copy(update=dict.fromkeys(names))
    chip = CHIP.model_copy(update={"limits": unlimited})
    large = layer((1, 140, 20), 1, Way(kernel=(17, 17), padding=(8, 8), stride=(1, 1)))
    assert [t[:11] for t in told(large)] == ["[SNNC-C005]", "[SNNC-C006]", "[SNNC-C007]", "[SNNC-C007]"]
    assert told(large, chip) == []


def test_as_many_layers_as_cores() -> None:
    limits = CHIP.limits.model_copy(update={"fan_out": None})
    chip = CHIP.model_copy(update={"limits": limits})
    assert told(chain(*[POINT] * 8), chip) == []
    assert told(chain(*[POINT] * 9), chip) == [
        "[SNNC-C003] network on speck2f: has more spiking layers than cores, got 10, limit 9. Try fewer layers."
    ]


def test_what_a_core_joins_goes_through_one_kernel_and_comes_once() -> None:
    net = Net((2, 4, 4))
    net.layer("a", 2, POINT, threshold=20, max_spikes=3)
    weight = net.tensors[net.pieces[0].connections[0].weight]
    same = Way(kernel=(1, 1), weight=weight)
    net.layer("b", 2, Way(**{**same.__dict__, "source": "a"}), same, threshold=20, max_spikes=3)
    assert told(net.mapped()) == []
    net.layer("c", 2, Way("b", kernel=(1, 1)), Way("b", kernel=(1, 1)), threshold=20, max_spikes=3)
    assert told(net.mapped()) == [
        "[SNNC-C012] %c (c) on speck2f: its inputs go through different kernels, and a core has one, got %b, %b. Try adding spikes before one convolution, not currents behind several.",
        "[SNNC-C012] %c (c) on speck2f: the same spikes reach it twice, and a core sends an event once, got %b. Try doubled weights in place of a sum with itself.",
    ]
    twice = Way("b", kernel=(1, 1), pool=(2, 2))
    routes = Net((2, 4, 4))
    routes.layer("b", 2, POINT, threshold=20, max_spikes=3)
    routes.layer("d", 2, Way("b", kernel=(2, 2), stride=(2, 2)), twice, threshold=20, max_spikes=3)
    assert [t[:11] for t in told(routes.mapped())] == [
        "[SNNC-C012]"
    ]  # by two poolings it comes twice rightly

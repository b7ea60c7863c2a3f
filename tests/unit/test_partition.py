"""Host and chip: what goes to the host, that it is the same network, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from divided_nets import HOST, NEEDS, mixed_graphs, network, without
from random_graphs import random_inputs
from snncc import api
from snncc.compilation import Lowered, Options
from snncc.errors import CapacityError, SnnccError, UsageError
from snncc.hw.quantity import Quantity
from snncc.hw.spec import ChipSpec
from snncc.hw.timing import MeshCosts
from snncc.ir import Graph, Neuron
from snncc.ir.batches import in_chunks
from snncc.mapping import crossing
from snncc.mapping.check import violations
from snncc.mapping.mapped import Part
from snncc.mapping.partition import HOST_BITS, Partition, parts_of
from snncc.model import Model
from snncc.reporting.parts import part_table
from snncc.simulation import Activity, Cost
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM, sim_target
from snncc_speck import SPECK2F
from snncc_speck.target import speck_target

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def lower(graph: Graph, chip: ChipSpec, partition: Partition = Partition.AUTO) -> tuple[Lowered, np.ndarray]:
    x = random_inputs(graph, 6, 3)
    return sim_target(chip).lower(Model(graph), x, Options(partition=partition)), x


def executed(made: Lowered, x: np.ndarray) -> Activity:
    counts = x.reshape(len(x), made.mapped.steps, *made.mapped.inputs[0].shape)
    return SIMULATOR.execute(made.mapped, made.tensors, counts)


def differing(made: Lowered, x: np.ndarray) -> dict[str, int]:
    """Values of each layer that the mapped network and the integer graph have differently."""
    spikes, integer = executed(made, x), in_chunks(made.integer_graph, x)
    found = {}
    for piece in made.mapped.pieces:
        got = spikes.counts[piece.name]
        want = integer.values[piece.name].reshape(got.shape)
        last = slice(-1, None) if piece.is_readout else slice(None)
        found[piece.name] = int((got[:, last] != want[:, last]).sum())
    return found


def on_host(made: Lowered) -> set[str]:
    return {p.name for p in made.mapped.on_host}


# ---- what goes where --------------------------------------------------------------------------------


def test_a_layer_that_the_chip_lacks_goes_to_the_host() -> None:
    made, x = lower(
        network(("soft", "leaks", "soft", "hard")), without("leak_between_timesteps", "hard_reset")
    )
    assert made.mapped.parts == (
        Part(name="chip.0", on_host=False, pieces=("n0",)),
        Part(name="host.0", on_host=True, pieces=("n1",)),
        Part(name="chip.1", on_host=False, pieces=("n2",)),
        Part(name="host.1", on_host=True, pieces=("n3",)),
        Part(name="chip.2", on_host=False, pieces=("last",)),
    )
    assert [p.state_bits for p in made.mapped.on_host] == [HOST_BITS, HOST_BITS]
    assert made.certificate.notes == (
        "%last (net.last): no spike reaches it on the calibration inputs, so that its scale and range are not"
        " measured",
        "%n1 is computed by the host: a leak to 2048/4096",
        "%n3 is computed by the host: hard reset",
    )
    assert set(differing(made, x).values()) == {0}


def test_a_network_that_lacks_nothing_has_no_parts() -> None:
    graph = network(("soft", "leaks"))
    made, _ = lower(graph, without())
    assert made.mapped.parts == ()
    assert on_host(made) == set()
    alone, _ = lower(graph, without(exchange=None))
    assert made.mapped == alone.mapped


def test_a_result_that_cannot_be_read_is_computed_by_the_host() -> None:
    made, x = lower(network(("soft", "soft")), without("reads_membranes"))
    assert on_host(made) == {"last"}
    assert made.mapped.parts[-1] == Part(name="host.0", on_host=True, pieces=("last",))
    assert set(differing(made, x).values()) == {0}


def test_a_skip_over_an_island_joins_the_later_segment() -> None:
    made, x = lower(network(("soft", "leaks", "soft"), skip=0), without("leak_between_timesteps"))
    assert [p.pieces for p in made.mapped.parts] == [("n0",), ("n1",), ("n2", "last")]
    assert next(p for p in made.mapped.pieces if p.name == "n2").sources == ("n0", "n1")
    assert set(differing(made, x).values()) == {0}


def test_an_island_in_front_of_the_chip_is_the_first_part() -> None:
    made, _ = lower(network(("leaks", "soft")), without("leak_between_timesteps"))
    assert [(p.name, p.pieces) for p in made.mapped.parts] == [
        ("host.0", ("n0",)),
        ("chip.0", ("n1", "last")),
    ]


@RELAXED
@given(mixed_graphs(), st.sets(st.sampled_from(sorted(NEEDS.values()))), st.integers(0, 2**16))
def test_any_denied_abilities_leave_every_integer_as_it_is(
    drawn: tuple[Graph, tuple[str, ...]], denied: set[str], seed: int
) -> None:
    graph, kinds = drawn
    lacking = {f"n{i}" for i, kind in enumerate(kinds) if NEEDS.get(kind) in denied}
    lacking |= {"last"} & ({"last"} if "reads_membranes" in denied else set())
    x = random_inputs(graph, 5, seed)
    target, whole = sim_target(without(*denied)), sim_target(without())
    if lacking == {f"n{i}" for i in range(len(kinds))} | {"last"}:
        with pytest.raises(CapacityError):
            target.lower(Model(graph), x, Options())
        return
    made = target.lower(Model(graph), x, Options())
    assert on_host(made) == lacking
    assert set(differing(made, x).values()) == {0}
    assert list(violations(made.mapped, made.tensors, target.chip, None)) == []
    assert made.integer_graph == whole.lower(Model(graph), x, Options()).integer_graph
    if lacking:
        with pytest.raises(CapacityError, match="--partition auto"):
            target.lower(Model(graph), x, Options(partition=Partition.NONE))


# ---- refusals ---------------------------------------------------------------------------------------


def refused(graph: Graph, chip: ChipSpec, partition: Partition = Partition.AUTO) -> str:
    with pytest.raises(CapacityError) as caught:
        lower(graph, chip, partition)
    return str(caught.value)


LEAK = "[SNNC-C010] %n1 (net.leaks1) on sim: the chip's membranes do not leak between timesteps, "
LEAK += "got a leak to 2048/4096. Try neurons without leak (IF), or one timestep"


def test_none_refuses_by_name_and_offers_the_host() -> None:
    graph, chip = network(("soft", "leaks")), without("leak_between_timesteps")
    assert refused(graph, chip, Partition.NONE) == f"{LEAK}, or --partition auto: the host computes it."


def test_a_chip_without_a_host_refuses_as_if_there_was_none() -> None:
    graph, chip = network(("soft", "leaks")), without("leak_between_timesteps", exchange=None)
    assert refused(graph, chip) == refused(graph, chip, Partition.NONE) == f"{LEAK}."


def test_nothing_left_to_the_chip_is_refused() -> None:
    graph = network(("leaks", "leaks"))
    chip = without("leak_between_timesteps", "reads_membranes")
    assert [line[:26] for line in refused(graph, chip).splitlines()] == [
        "[SNNC-C017] %out on sim: t",
        "[SNNC-C010] %n0 (net.leaks",
        "[SNNC-C010] %n1 (net.leaks",
    ]


def test_what_no_host_can_do_is_refused_alone() -> None:
    chip = without("leak_between_timesteps", "second_accumulator")
    counting = network(("soft", "leaks")).rewrite(
        lambda n: replace(n, max_spikes=2) if isinstance(n, Neuron) and n.name == "n0" else None
    )
    assert refused(counting, chip) == (
        "[SNNC-C015] network on sim: timesteps need a second accumulator while a window fires, got 3 timesteps, "
        "limit 1. Try a network of one timestep (SFA), or --target sim."
    )


def test_no_such_partition() -> None:
    with pytest.raises(UsageError) as caught:
        api.check(Model(network(("soft",))), target="sim", partition="some")
    assert str(caught.value) == ("[SNNC-U005] --partition: is none of these, got some, limit auto, none.")


def test_a_backend_that_divides_nothing_takes_no_host() -> None:
    with pytest.raises(SnnccError) as caught:
        speck_target(SPECK2F.chip.model_copy(update={"exchange": without().exchange}))
    assert str(caught.value) == (
        "[SNNC-U009] chip speck2f: exchange: the backend speck divides no network between chip and host. "
        "Try leaving it out."
    )


# ---- the independent checker ------------------------------------------------------------------------


def broken(made: Lowered, chip: ChipSpec, **changes: object) -> list[str]:
    found = violations(made.mapped.model_copy(update=changes), made.tensors, chip, None)
    return [str(p) for p in found]


def test_the_checker_finds_what_stands_in_the_wrong_place() -> None:
    chip = without("leak_between_timesteps")
    made, _ = lower(network(("soft", "leaks", "soft")), chip)
    first, island, second = made.mapped.parts
    assert broken(made, chip) == []
    assert broken(made, SIM.chip) == [
        "mapping of sim: the host computes pieces, but exchanges no events, got ['n1']."
    ]
    assert broken(made, chip, parts=(first, second)) == ["mapping of n1: stands in no part, or in several."]
    assert broken(made, chip, parts=(first, second, island)) == [
        "mapping of n2: stands in a part before one that it reads, got chip.1, limit host.0."
    ]
    moved = first.model_copy(update={"on_host": True})
    assert broken(made, chip, parts=(moved, island, second)) == [
        "mapping of n0: stands in a part of the other kind, got chip.0."
    ]
    extra = second.model_copy(update={"pieces": (*second.pieces, "n9")})
    assert broken(made, chip, parts=(first, island, extra)) == ["mapping of n9: a part names no piece."]
    back = tuple(p.model_copy(update={"on_host": False, "state_bits": 32}) for p in made.mapped.pieces)
    assert broken(made, chip, pieces=back) == [
        "mapping of sim: is in parts, but the host computes no piece, got 3."
    ]


def test_parts_follow_from_the_pieces() -> None:
    made, _ = lower(network(("soft", "leaks", "soft", "leaks"), skip=0), without("leak_between_timesteps"))
    assert parts_of(made.mapped.pieces) == made.mapped.parts


def test_planted_an_island_that_drops_a_delay_is_found() -> None:
    """What an island reads late it must read late on the host as well."""
    made, x = lower(network(("soft", "soft", "leaks"), skip=0), without("leak_between_timesteps"))
    island = made.mapped.on_host[0]
    assert [c.delay for c in island.connections if c.source == "n0"] == [made.mapped.micro_steps]
    hasty = island.model_copy(
        update={"connections": tuple(c.model_copy(update={"delay": 0}) for c in island.connections)}
    )
    pieces = tuple(hasty if p.name == island.name else p for p in made.mapped.pieces)
    assert differing(made, x)[island.name] == 0
    planted = Lowered(**{**vars(made), "mapped": made.mapped.model_copy(update={"pieces": pieces})})
    assert differing(planted, x)[island.name] > 0


# ---- what crosses -----------------------------------------------------------------------------------


def readers_across(graph: Graph, host: set[str]) -> dict[str, list[str]]:
    """Neurons of an integer graph, and its input, that the other side reads, found through the graph alone."""
    found: dict[str, list[str]] = {}
    for name, layer in graph.layers.items():
        pending = list(layer.sources)
        while pending:
            node = graph.by_name[pending.pop()]
            if node.name in graph.layers or node is graph.input:
                if (node is graph.input or node.name in host) != (name in host):
                    found.setdefault(node.name, []).append(name)
            else:
                pending += node.inputs
    return found


@RELAXED
@given(mixed_graphs(), st.sets(st.sampled_from(sorted(NEEDS.values()))), st.integers(0, 2**16))
def test_crossings_are_counted_as_from_the_integers_themselves(
    drawn: tuple[Graph, tuple[str, ...]], denied: set[str], seed: int
) -> None:
    graph, _ = drawn
    x = random_inputs(graph, 5, seed)
    try:
        made = sim_target(without(*denied)).lower(Model(graph), x, Options())
    except CapacityError:
        return
    spikes, integer = executed(made, x), in_chunks(made.integer_graph, x)
    across = readers_across(made.integer_graph, on_host(made))
    got = {c.source: (c.events, c.inward) for c in spikes.crossings if c.readers != ("result",)}
    want = {n: (int(integer.values[n].sum()), n in on_host(made)) for n in across if n != "x"}
    assert got == want | ({"input": (int(x.sum()), True)} if "x" in across else {})


def test_an_event_for_several_parts_crosses_once_and_a_result_is_read() -> None:
    made, x = lower(network(("soft", "leaks", "soft", "leaks"), skip=0), without("leak_between_timesteps"))
    spikes = executed(made, x)
    assert [(c.source, c.origin, c.readers, c.inward) for c in spikes.crossings] == [
        ("input", "input", ("chip.0",), True),
        ("n0", "chip.0", ("host.0", "host.1"), False),
        ("n1", "host.0", ("chip.1",), True),
        ("n2", "chip.1", ("host.1",), False),
        ("n3", "host.1", ("chip.2",), True),
        ("last", "chip.2", ("result",), False),
    ]
    assert spikes.crossings[1].events == spikes.counts["n0"].sum()
    assert spikes.crossings[-1].events == len(x) * 4


def test_planted_an_event_counted_for_each_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = crossing._of_piece
    monkeypatch.setattr(crossing, "_of_piece", lambda m, p, c: 2 * right(m, p, c))
    with pytest.raises(AssertionError):
        test_crossings_are_counted_as_from_the_integers_themselves()


# ---- cost -------------------------------------------------------------------------------------------


def costed(chip: ChipSpec) -> Cost:
    made, x = lower(network(("soft", "leaks", "soft")), chip)
    return SIMULATOR.estimate(made.mapped, executed(made, x), chip, 0, made.tensors)


def test_what_the_host_accumulates_is_priced_by_a_name_of_its_own() -> None:
    cost, whole = costed(without("leak_between_timesteps")), costed(without())
    island = next(layer for layer in cost.layers if layer.name == "n1")
    alone = next(layer for layer in whole.layers if layer.name == "n1")
    assert island.on_host
    assert (island.operations.acs, island.operations.host_acs) == (0, alone.operations.acs)
    assert cost.operations.acs + cost.operations.host_acs == whole.operations.acs
    assert cost.operations.host_updates == alone.operations.neuron_updates
    for model, there in zip(cost.energy, whole.energy, strict=True):
        names = {c.name for c in model.components if c.name.startswith("host_")}
        assert names
        assert model.total_nj.value == pytest.approx(there.total_nj.value)
    assert "islands of the host: whose computer it is, the chip's description does not say" in " ".join(
        cost.not_modelled
    )


def test_exchanges_have_a_time_or_are_said_to_have_none() -> None:
    chip = without("leak_between_timesteps")
    gap = "exchanges with the host: no time of one is known; events may cross in 4 micro-steps"
    assert gap in costed(chip).not_modelled
    assert not any("exchange" in line for line in costed(without()).not_modelled)
    time = Quantity(value=100.0, low=50.0, high=200.0, source="a test", grade="assumed")
    rounds = MeshCosts(
        step_time_min_ns=Quantity(value=10.0, low=10.0, high=10.0, source="a test", grade="assumed")
    )
    timed = chip.model_copy(
        update={"exchange": HOST.model_copy(update={"time_ns": time}), "mesh_costs": rounds}
    )
    untimed = chip.model_copy(update={"mesh_costs": rounds})
    slow, fast = costed(timed), costed(untimed)
    assert slow.latency.mean_ns is not None
    assert fast.latency.mean_ns is not None
    assert slow.latency.mean_ns.value - fast.latency.mean_ns.value == 4 * 100
    assert slow.latency.mean_ns.high - fast.latency.mean_ns.high == 4 * 200
    assert "exchange_time_ns" in [c.name for c in slow.latency.constants]
    assert gap not in slow.not_modelled


def test_check_says_what_would_run_where() -> None:
    graph = network(("soft", "leaks", "soft"))
    x = random_inputs(graph, 6, 3)
    chip = without("leak_between_timesteps")
    found = api.check(Model(graph, calibration=x), chip=chip)
    assert found.problems == ()
    made, _ = lower(graph, chip)
    spikes = executed(made, x)
    assert found.crossings == spikes.crossings
    assert found.lowered is not None
    events = {c.source: c.events for c in spikes.crossings}
    table = part_table(found.lowered.mapped, found.crossings, found.samples)
    assert table.rows == (
        ("chip.0", "chip", "n0", each(events["input"]), each(events["n0"])),
        ("host.0", "host", "n1", each(events["n0"]), each(events["n1"])),
        ("chip.1", "chip", "n2, last (2)", each(events["n1"]), "4"),
    )
    assert part_table(lower(graph, without())[0].mapped, (), 6).rows == ()


def each(events: int) -> str:
    return f"{events / 6:,.1f}".removesuffix(".0")

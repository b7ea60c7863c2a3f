"""Executes mapped networks: checks the input, splits the batch, runs the kernels, sums up.

Samples are independent and every figure is an integer, so that results do not depend on the
number of workers or on how the batch is split. Three engines:

* clocked: windows of micro-steps as :mod:`snncc.ir.interp` defines them (``release=window``);
* event: free-running in the order that :mod:`snncc.ir.free` defines;
* gated: event-driven; a piece plays all its input events, then its control events release it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir.const import each_channel
from snncc.ir.schedule import Engine
from snncc.mapping.mapped import InputPort, Mapped, Piece, neurons_of
from snncc.simulation import Activity, Inputs, LayerActivity, Progress, by_port, decoded
from snncc_sim import kernels, program
from snncc_sim.program import Program

# Samples of one kernel call: enough to hide the call, few enough for a smooth progress bar.
_CHUNK_SAMPLES = 16
_CHUNK_COUNTS = 4_000_000  # spike counts that one call holds at a time


def execute(
    mapped: Mapped,
    tensors: Mapping[str, Array],
    x: Inputs,
    *,
    shuffle: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    chunk: int | None = None,
) -> Activity:
    """Run a batch of spike counts.

    Args:
        mapped: the network.
        tensors: its arrays by digest.
        x: input counts [N, T, C, H, W] by port, whole numbers within its levels, of any dtype.
        shuffle: plays the input events of sample i in a random order, seeded with (shuffle, i);
            the clocked engine has no order within a micro-step and ignores it.
        workers: threads.
        progress: called in this thread with the number of samples just finished.
        chunk: samples a kernel call; results do not depend on it.

    Returns:
        Exact counts and totals. ``result`` is [N, C] where the output map is a single site.

    Raises:
        DataError: SNNC-D003, SNNC-D004 or SNNC-D006 if ``x`` does not fit the input.
        CapacityError: what :func:`snncc_sim.program.build` raises, or SNNC-C009 if a sum leaves
            the range in which the kernels are exact.
        InternalError: SNNC-X001 if the mapping contradicts itself.
    """
    counts_in = _checked(mapped, x)
    machine = _Machine(program.build(mapped, tensors), shuffle)
    samples = len(counts_in)
    if chunk is None:
        chunk = max(1, min(_CHUNK_SAMPLES, _CHUNK_COUNTS // max(1, mapped.steps * machine.program.neurons)))
    kept = {p.name: np.zeros((samples, mapped.steps, *p.shape), np.int32) for p in mapped.pieces}
    stats = np.zeros((samples, *machine.program.stats_shape), np.int64)
    chunks = [(s, min(s + chunk, samples)) for s in range(0, samples, chunk)]
    for (first, end), counts, part in _run(machine, counts_in, chunks, workers):
        stats[first:end] = part
        for row, piece in zip(machine.program.pieces, mapped.pieces, strict=True):
            channels, height, width = piece.shape
            maps = counts[:, :, row["start"] : row["start"] + row["size"]]
            maps = maps.reshape(end - first, mapped.steps, height, width, channels)
            kept[piece.name][first:end] = np.moveaxis(maps, -1, 2)
        if progress is not None:
            progress(end - first)
    return _activity(mapped, tensors, kept, stats)


def _checked(mapped: Mapped, x: Inputs) -> NDArray[np.int32]:
    """Counts of all ports as [N, T, addresses] int32, one port after the other, channels last."""
    given = by_port(tuple(mapped.ports), x)
    flat = [_checked_port(port, mapped.steps, given[port.name]) for port in mapped.inputs]
    return np.ascontiguousarray(np.concatenate(flat, axis=2), dtype=np.int32)


def _checked_port(port: InputPort, steps: int, x: Array) -> Array:
    """``x`` as [N, T, addresses], channels last."""
    expected = (steps, *port.shape)
    if x.ndim != 5 or x.shape[1:] != expected:
        limit = f"[N, {', '.join(map(str, expected))}]"
        raise fail("SNNC-D004", port.name, "shape differs from the network's", got=list(x.shape), limit=limit)
    if x.dtype.kind not in "biuf":
        raise fail("SNNC-D003", port.name, "spike counts must be numbers", got=x.dtype)
    if x.size and not (x.min() >= port.least and x.max() <= port.levels and (x == np.floor(x)).all()):
        got = f"{x.min()}..{x.max()}"
        limit = f"whole numbers {port.least}..{port.levels}"
        raise fail("SNNC-D006", port.name, "values outside the input's levels", got=got, limit=limit)
    return np.moveaxis(x, 2, -1).reshape(len(x), steps, int(np.prod(port.shape)))


Chunk = tuple[int, int]
Result = tuple[Array, Array]


def _run(
    machine: _Machine, x: Array, chunks: list[Chunk], workers: int
) -> Iterator[tuple[Chunk, Array, Array]]:
    """Results chunk by chunk, in order; at most a few chunks per worker wait at any time."""
    if workers <= 1:
        for chunk in chunks:
            yield (chunk, *machine.run(x, *chunk))
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[tuple[Chunk, Future[Result]]] = []
        try:
            for chunk in chunks:
                waiting.append((chunk, pool.submit(partial(machine.run, x), *chunk)))
                if len(waiting) > 2 * workers:
                    done, future = waiting.pop(0)
                    yield (done, *future.result())
            for done, future in waiting:
                yield (done, *future.result())
        finally:
            for _, future in waiting:
                future.cancel()


@dataclass(frozen=True)
class _Machine:
    """A program ready to run chunks of samples; safe to share between threads."""

    program: Program
    shuffle: int | None

    def run(self, x: Array, first: int, end: int) -> Result:
        """Counts [n, T, neurons] and statistics [n, pieces, ...] of samples first..end."""
        mapped = self.program.mapped
        counts = np.zeros((end - first, mapped.steps, self.program.neurons), np.int32)
        stats = np.zeros((end - first, *self.program.stats_shape), np.int64)
        if mapped.engine is Engine.CLOCKED:
            self._clocked(x[first:end], counts, stats)
        else:
            self._events(x[first:end, 0], first, counts[:, 0], stats)
        if stats[:, :, program.OVERFLOW].any():
            piece = mapped.pieces[int(stats[:, :, program.OVERFLOW].any(axis=0).argmax())]
            what = "a sample causes more events than 32-bit sums hold exactly"
            raise fail("SNNC-C009", piece.name, what, hint="higher thresholds or fewer input events")
        return counts, stats

    def _net(self) -> tuple[Array, ...]:
        p = self.program
        # Which sites are open is written while a chunk runs: threads share nothing of it.
        sites = p.sites.copy()
        return p.connections, p.pointers, p.outputs, p.taps, p.weights, sites, p.openings, p.cells

    def _clocked(self, x: Array, counts: Array, stats: Array) -> None:
        p = self.program
        scratch = np.zeros(p.neurons, np.int64 if p.wide else np.int32)
        kernels.run_clocked(
            p.pieces,
            self._net(),
            (p.products.rows, p.products.tables, np.zeros(p.products.memory, np.int64)),
            p.pools,
            p.v_init,
            p.bias,
            (p.ports, x),
            p.mapped.micro_steps,
            p.depths,
            p.sizes,
            scratch,
            counts,
            stats,
        )

    def _events(self, x: Array, first: int, counts: Array, stats: Array) -> None:
        p = self.program
        start = self._start()
        played = [self._play(row, first + i) for i, row in enumerate(x)]
        offsets = np.cumsum([0, *(len(e) for e in played)])
        events = np.concatenate([*played, np.zeros(0, np.int32)])
        largest = max(128, int(np.abs(p.weights.astype(np.int64)).max(initial=0)))
        budget = (2**31 - 1 - int(np.abs(start).max(initial=0))) // largest
        gated = p.mapped.engine is Engine.GATED
        start32 = start.astype(np.int32)
        kernels.run_events(p.pieces, self._net(), start32, events, offsets, gated, budget, counts, stats)

    def _play(self, x: Array, sample: int) -> NDArray[np.int32]:
        """Addresses of a sample's input events, in the order (micro-step, y, x, channel) or shuffled."""
        parts = [np.flatnonzero(x > d) for d in range(int(x.max(initial=0)))]
        events = np.concatenate([*parts, np.zeros(0, np.int64)]).astype(np.int32)
        if self.shuffle is not None:
            events = np.random.default_rng([self.shuffle, sample]).permutation(events)
        return events

    def _start(self) -> NDArray[np.int64]:
        """Membranes before the first event."""
        p = self.program
        start = p.v_init + p.bias
        for row, piece in zip(p.pieces, p.mapped.pieces, strict=True):
            mine = start[row["start"] : row["start"] + row["size"]]
            precharge = each_channel(piece.cell.precharge, piece.shape[0])
            mine += np.tile(precharge, mine.size // len(precharge)) - row["step"] * row["rounds"]
            word = 1 << (piece.state_bits - 1)
            if mine.size and not (-word <= mine.min() and mine.max() < word):
                got = f"{mine.min()}..{mine.max()}"
                raise fail("SNNC-C009", piece.name, "initial membrane", got=got, limit=f"{-word}..{word - 1}")
        return start


def _updates(mapped: Mapped, tensors: Mapping[str, Array], samples: int) -> list[int]:
    """Membrane updates other than synaptic ones: a charge a window, a pass a micro-step that may fire."""
    if mapped.engine is not Engine.CLOCKED:
        return [0] * len(mapped.pieces)
    per_window = [1 + min(p.cell.max_spikes, 1 if p.graded else mapped.micro_steps) for p in mapped.pieces]
    return [
        samples * mapped.steps * neurons_of(p, tensors) * n
        for p, n in zip(mapped.pieces, per_window, strict=True)
    ]


def _sent(piece: Piece, counts: Array) -> int:
    """Spikes that counts stand for; what a relay sends is one, whatever it carries."""
    if piece.is_readout:
        return 0
    return int(np.count_nonzero(counts) if piece.cell.signed else counts.sum(dtype=np.int64))


def _activity(
    mapped: Mapped, tensors: Mapping[str, Array], counts: dict[str, Array], stats: Array
) -> Activity:
    samples = len(stats)
    updates = _updates(mapped, tensors, samples)
    layers = []
    for i, piece in enumerate(mapped.pieces):
        total = [int(n) for n in stats[:, i].sum(axis=0)]
        layers.append(
            LayerActivity(
                piece.name,
                events=total[program.EVENTS],
                synaptic_operations=total[program.SYNOPS],
                unit_operations=total[program.UNITS],
                control_events=total[program.CONTROL_EVENTS],
                control_operations=total[program.CONTROL_OPS],
                spikes=_sent(piece, counts[piece.name]),
                neuron_updates=updates[i],
                saturations=total[program.SATURATIONS],
                early=total[program.EARLY],
                out_of_range=tuple(int(s) for s in np.flatnonzero(stats[:, i, program.OUTSIDE])),
            )
        )
    columns = [program.SYNOPS, program.CONTROL_OPS]
    per_sample = {p.name: stats[:, i][:, columns] for i, p in enumerate(mapped.pieces)}
    arrived = np.asarray(stats[:, :, program.STATS :].sum(axis=0))
    by_connection, by_product = {}, {}
    for i, p in enumerate(mapped.pieces):
        last = len(p.connections)
        by_connection[p.name] = tuple(int(n) for n in arrived[i, :last])
        by_product[p.name] = tuple(int(n) for n in arrived[i, last : last + len(p.products)])
    result = decoded(mapped.output, counts[mapped.output.piece], tensors)
    return Activity(
        samples, counts, tuple(layers), result, per_sample, by_connection, product_events=by_product
    )

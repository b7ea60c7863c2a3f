"""Runs this folder's network in Lava (lava-nc 0.10, Python 3.10) on inputs from a file.

    python run.py --inputs in.npz --results out.npz [--trains] [--limit SECONDS]

``in.npz`` holds ``x.<i>``, counts [N, T, C, H, W] of N samples for every input port i. ``out.npz`` gets
``counts.<i>`` int32 [N, T, C, H, W] of every population i in the order of network.json (a readout: its
membranes) and, with ``--trains``, ``trains.<i>``, what it sent in every micro-step of a sample
[N, k, C, H, W]. Samples run back to back in one run of Lava and are independent of each other.

Exit codes: 0 done, 64 network or inputs refused, 65 wrong versions, 70 failed, 75 out of time.
"""

import argparse
import json
import os
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path

import guard
import numpy as np

HERE = Path(__file__).resolve().parent
REFUSED, WRONG_VERSIONS = 64, 65


def options(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", required=True, type=Path)
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--trains", action="store_true", help="also what was sent in every micro-step")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds until the run is given up")
    parser.add_argument("--parent", type=int, help="id of the process without which to give up")
    parser.add_argument("--prefix", default=f"snncc{os.getpid()}_", help="of shared memory's names")
    return parser.parse_args(arguments)


# ---- checks before Lava is started ----------------------------------------------------------------


def wrong_versions():
    """What keeps this environment from running the network."""
    lava = metadata.version("lava-nc")
    found = [] if lava.startswith("0.10.") else [f"lava-nc is {lava}, the network is made for 0.10"]
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        found.append(f"numpy is {np.__version__}, lava-nc 0.10 needs one below 2")
    return found


def contradictions(network, weights):
    """What is wrong with the network; Lava itself would run it and deliver zeros."""
    shapes = {p["name"]: p["shape"] for p in network["populations"]}
    sources = {p["name"]: p["shape"] for p in network["inputs"]} | shapes
    found = []
    for name in shapes:
        if all(c["target"] != name for c in network["connections"]):
            found.append(f"population {name!r} has no connection: its input would dangle")
    for i, c in enumerate(network["connections"]):
        where, address = f"connection {i}", c["address"]
        for end, known, shape in (("source", sources, "source_shape"), ("target", shapes, "target_shape")):
            if c[end] not in known:
                found.append(f"{where}: there is no {end} {c[end]!r}")
            elif known[c[end]] != address[shape]:
                found.append(f"{where}: {shape} {address[shape]} is not {known[c[end]]} of {c[end]!r}")
        channels = [address["target_shape"][0], address["source_shape"][0] // address["groups"]]
        expected = [*channels, *address["kernel"]]
        if c["weight"] not in weights or list(weights[c["weight"]].shape) != expected:
            found.append(f"{where}: there is no array {c['weight']!r} of shape {expected}")
    return found


def unfit(network, inputs):
    """What is wrong with the inputs."""
    names = [f"x.{i}" for i in range(len(network["inputs"]))]
    if sorted(inputs) != names or len({len(x) for x in inputs.values()}) != 1:
        return [f"the inputs are {sorted(inputs)}, the network takes {names}, of as many samples each"]
    return [
        line
        for name, port in zip(names, network["inputs"], strict=True)
        for line in unfit_port(name, port, network["steps"], inputs[name])
    ]


def unfit_port(name, port, steps, x):
    """What is wrong with one port's."""
    shape = [steps, *port["shape"]]
    if x.ndim != 5 or list(x.shape[1:]) != shape:
        return [f"{name} has shape {list(x.shape)}, the network takes [N, {', '.join(map(str, shape))}]"]
    least, levels = port["least"], port["levels"]
    if x.size and not (x.min() >= least and x.max() <= levels and (x == np.floor(x)).all()):
        return [f"{name} holds {x.min()}..{x.max()}, the network takes whole numbers {least}..{levels}"]
    return []


# ---- from network.json to Lava's processes --------------------------------------------------------


def layout(shape):
    """(W, H, C), as Lava has maps, of [C, H, W]."""
    return tuple(reversed(shape))


def per_neuron(value, shape, weights):
    """int64 (W, H, C) of a number or of the name of an array [C]."""
    full = np.zeros(layout(shape), np.int64)
    return full + (value if isinstance(value, int) else weights[value].astype(np.int64))


def source(port, x, run, path):
    """Lava process that plays the counts ``x`` of an input port, which it reads from ``path``."""
    from snncc_procs.source import Source

    np.save(path, np.ascontiguousarray(x.transpose(0, 1, 4, 3, 2), dtype=np.int32))
    shape = layout(port["shape"])
    how = {"graded": port["graded"], "phase": port["phase"]}
    return Source(shape=shape, inputs=str(path), run=run, name=port["name"], **how)


def population(p, run, record, weights):
    """Lava process of a population."""
    from snncc_procs.lif import StartedLIF
    from snncc_procs.population import Population

    shape, neuron = layout(p["shape"]), p["neuron"]
    start, bias = (per_neuron(p[key], p["shape"], weights) for key in ("start", "bias"))
    common = {"shape": shape, "run": run, "record": record, "name": p["name"]}
    if p["process"] == "lif":
        lif = p["lif"]
        return StartedLIF(
            **common,
            v=start.astype(np.int32),
            bias_mant=(bias >> lif["bias_exp"]).astype(np.int32),
            bias_exp=lif["bias_exp"],
            du=lif["du"],
            dv=lif["dv"],
            vth=lif["vth"],
            begin=neuron["begin"],
            first=neuron["first"],
        )
    return Population(**common, neuron=neuron, start=start, bias=bias)


def connect(c, spikes, target, weights, name):
    """Wire port ``spikes`` to port ``target``; the processes between them."""
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import DelayDense, Dense
    from snncc_procs.delay import DelayLine
    from snncc_procs.tapconv import TapConv

    made, a = [], c["address"]
    weight = weights[c["weight"]].astype(np.int32)
    bits = {"num_message_bits": c["message_bits"]}
    if c["delay_by"] == "line":
        line = DelayLine(shape=layout(a["source_shape"]), delay=c["delay"], name=f"{name}-delay")
        spikes.connect(line.s_in)
        made, spikes = [line], line.s_out
    if c["kind"] == "dense":
        matrix = weight.transpose(0, 3, 2, 1).reshape(len(weight), -1)
        fixed = {"weights": matrix, "weight_exp": c["weight_exp"], "name": name, **bits}
        late = c["delay_by"] == "DelayDense"
        synapses = DelayDense(delays=c["delay"], **fixed) if late else Dense(**fixed)
        spikes.reshape((matrix.shape[1],)).connect(synapses.s_in)
        synapses.a_out.reshape((1, 1, len(weight))).connect(target)
        return [*made, synapses]
    if c["kind"] == "conv":
        synapses = Conv(
            # Lava convolves: PyTorch's cross-correlation with the kernel turned round.
            weight=np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)),
            input_shape=layout(a["source_shape"]),
            stride=layout(a["stride"]),
            padding=layout(a["padding"]),
            dilation=layout(a["dilation"]),
            groups=a["groups"],
            name=name,
            **bits,
        )
    else:
        shapes = {"in_shape": layout(a["source_shape"]), "out_shape": layout(a["target_shape"])}
        synapses = TapConv(weight=weight, geometry=a, name=name, **shapes)
    spikes.connect(synapses.s_in)
    synapses.a_out.connect(target)
    return [*made, synapses]


def build(network, weights, inputs, folder, trains):
    """All processes, the sources first."""
    run = {key: network[key] for key in ("sample_steps", "steps", "micro_steps", "end")}
    run["samples"] = len(inputs["x.0"])
    made, senders, receivers = [], {}, {}
    for i, port in enumerate(network["inputs"]):
        made.append(source(port, inputs[f"x.{i}"], run, folder / f"inputs-{i}.npy"))
        senders[port["name"]] = made[-1].s_out
    for i, p in enumerate(network["populations"]):
        record = {"path": str(folder / str(i)), "trains": trains}
        neurons = population(p, run, record, weights)
        made.append(neurons)
        senders[p["name"]], receivers[p["name"]] = neurons.s_out, neurons.a_in
    for i, c in enumerate(network["connections"]):
        made += connect(c, senders[c["source"]], receivers[c["target"]], weights, f"synapses-{i}")
    return made


# ---- the run --------------------------------------------------------------------------------------


def execute(network, weights, inputs, trains, watchdog):
    """Run all samples; arrays by name as the results file has them."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    watchdog.watch_actors()
    with tempfile.TemporaryDirectory(prefix="snncc-lava-") as folder:
        processes = build(network, weights, inputs, Path(folder), trains)
        steps = len(inputs["x.0"]) * network["sample_steps"]
        processes[0].run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        watchdog.disarm()
        processes[0].stop()
        return {
            f"{kind}.{i}": np.load(f"{folder}/{i}.{kind}.npy").transpose(0, 1, 4, 3, 2)
            for kind in ("counts", "trains")[: 2 if trains else 1]
            for i in range(len(network["populations"]))
        }


def write(path, arrays):
    """Write the results whole or not at all."""
    staging = path.with_name(path.name + ".part")
    with staging.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(staging, path)


def nothing(network, trains):
    """Results of no sample."""
    found = {}
    for i, p in enumerate(network["populations"]):
        found[f"counts.{i}"] = np.zeros((0, network["steps"], *p["shape"]), np.int32)
        if trains:
            found[f"trains.{i}"] = np.zeros((0, network["sample_steps"], *p["shape"]), np.int32)
    return found


def main(arguments):
    """Run the command line; the exit code."""
    chosen = options(arguments)
    network = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    with np.load(HERE / "weights.npz") as file:
        weights = dict(file)
    with np.load(chosen.inputs) as file:
        inputs = dict(file)
    found, code = wrong_versions(), WRONG_VERSIONS
    if not found:
        found, code = contradictions(network, weights) + unfit(network, inputs), REFUSED
    if found:
        print("\n".join(f"snncc: {line}" for line in found), file=sys.stderr)
        return code
    if any(x.size == 0 for x in inputs.values()):
        write(chosen.results, nothing(network, chosen.trains))
        return 0
    guard.name_memory(chosen.prefix)
    guard.bind_children()
    watchdog = guard.Watchdog(chosen.prefix, chosen.limit, chosen.parent)
    watchdog.start()
    try:
        write(chosen.results, execute(network, weights, inputs, chosen.trains, watchdog))
    except BaseException:
        watchdog.abort(guard.CRASHED, f"the run failed\n{traceback.format_exc()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

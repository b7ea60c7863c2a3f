"""Runs cases (see tests/fixed_cases.py) in Lava and writes what every population did.

    .venv-lava/bin/python lava_driver.py FOLDER MEMORY_PREFIX PROCESSES NAME...

Runs on Python 3.10 beside lava-nc and imports nothing of snncc. Of each NAME it reads FOLDER/NAME.json
and .npz and writes FOLDER/NAME.<population>.npz with ``spikes`` (what it sent), ``v`` and ``u`` after
each step, [T, *shape]. PROCESSES is the folder that holds the package ``snncc_procs``.
"""

import json
import os
import signal
import sys
import traceback
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

FOLDER, PREFIX, NAMES = Path(sys.argv[1]), sys.argv[2], sys.argv[4:]
sys.path.insert(0, sys.argv[3])
# Named before Lava starts, so that the test can remove what a killed run leaves behind.
shared_memory._SHM_NAME_PREFIX = "/" + PREFIX
shared_memory._SHM_SAFE_NAME_LENGTH = len(PREFIX) + 13

from lava.magma.core.model.py.model import PyLoihiProcessModel  # noqa: E402
from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.proc.conv.process import Conv  # noqa: E402
from lava.proc.dense.process import DelayDense, Dense  # noqa: E402
from lava.proc.graded.process import GradedReluVec, GradedVec  # noqa: E402
from lava.proc.io.source import RingBuffer  # noqa: E402
from lava.proc.lif.process import LIF, LIFReset  # noqa: E402
from lava.proc.sparse.process import Sparse  # noqa: E402
from lava.utils.weightutils import SignMode  # noqa: E402
from scipy.sparse import csr_matrix  # noqa: E402

# ---- recording, inside Lava's own processes: they are forks of this one -------------------------------


def record(model, path, steps):
    """Keep what ``model`` sends and its state after each step; write it in the last."""
    kept = {"spikes": [], "v": [], "u": []}
    run, send = model.run_spk, model.s_out.send

    def kept_send(data):
        kept["spikes"].append(np.array(data, np.int64))
        send(data)

    def kept_run():
        run()
        silent = np.zeros_like(kept["spikes"][-1])
        kept["v"].append(np.array(getattr(model, "v", silent), np.int64))
        # `current` is our own process's name for it.
        kept["u"].append(np.array(getattr(model, "u", getattr(model, "current", silent)), np.int64))
        if model.time_step == steps:
            np.savez(path, **{name: np.stack(parts) for name, parts in kept.items()})

    model.s_out.send, model.run_spk = kept_send, kept_run


def end_all():
    """Say what went wrong and end this run with all its processes, which would wait for ever."""
    traceback.print_exc()
    sys.stderr.flush()
    os.killpg(0, signal.SIGKILL)


def watch_all_models():
    """Record where a process asks for it; end the whole run where a model raises (Lava would hang)."""
    spike = PyLoihiProcessModel._spike

    def watched(model):
        wish = model.proc_params.get("record_to", None) if model.proc_params else None
        if wish is not None and model.time_step == 0:
            record(model, *wish)
        try:
            spike(model)
        except BaseException:
            end_all()

    PyLoihiProcessModel._spike = watched


# ---- from a case to processes; maps are (W, H, C) in Lava ---------------------------------------------


def mirrored(value, shape):
    """An array that broadcasts to ``shape`` (or a number) in Lava's order of axes."""
    return np.ascontiguousarray(np.broadcast_to(value, shape).T).astype(np.int32)


def population(name, p, case):
    shape = tuple(reversed(p["shape"]))
    if p["kind"] == "graded":
        made = (GradedReluVec if p["relu"] else GradedVec)(shape=shape, vth=p["vth"])
    elif p["kind"] in ("population", "streaming"):
        made = own_population(name, p, case, shape)
    else:
        made = lif(name, p, case, shape)
    made.proc_params["record_to"] = (str(FOLDER / f"{case['name']}.{name}.npz"), case["steps"])
    return made


def lif(name, p, case, shape):
    common = {
        "shape": shape,
        "v": mirrored(p["v_init"], p["shape"]),
        "bias_mant": mirrored(p["bias_mant"], p["shape"]),
        "bias_exp": mirrored(p["bias_exp"], p["shape"]),
        **{key: p[key] for key in ("du", "dv", "vth")},
    }
    if "started" in p:
        from snncc_procs.lif import StartedLIF

        run = our_run(p["started"], case)
        own = {"begin": p["begin"], "first": p["started"]["first"], "run": run}
        return StartedLIF(**common, **own, record=no_record(case, name), name=name)
    if p["reset_interval"]:
        return LIFReset(**common, reset_interval=p["reset_interval"], reset_offset=p["reset_offset"])
    return LIF(**common)


def own_population(name, p, case, shape):
    from snncc_procs.population import Population

    # A population that streams has no timesteps of its own.
    times = p if p["kind"] == "population" else {"steps": 1, "micro_steps": 1, "end": p["end"]}
    apart = ("kind", "shape", "v_init", "bias", "steps", "micro_steps", "end")
    neuron = {k: v for k, v in p.items() if k not in apart} | {"streams": p["kind"] == "streaming"}
    start, bias = (
        mirrored(spread(p[key], p["shape"]), p["shape"]).astype(np.int64) for key in ("v_init", "bias")
    )
    run, record_ = our_run(times, case), no_record(case, name)
    return Population(shape=shape, neuron=neuron, start=start, bias=bias, run=run, record=record_, name=name)


def spread(value, shape):
    """A number a channel against the population's shape."""
    return value.reshape(-1, *[1] * (len(shape) - 1)) if isinstance(value, np.ndarray) else value


def our_run(times, case):
    return {
        "samples": 1,
        "sample_steps": case["steps"],
        "steps": times["steps"],
        "micro_steps": times["micro_steps"],
        "end": times.get("end", case["steps"]),
    }


def no_record(case, name):
    return {"path": str(FOLDER / f"{case['name']}.{name}.own"), "trains": False}


def matrix(weights, source, target):
    """Rows and columns of a matrix over flat [C, H, W] maps, in the order of Lava's (W, H, C)."""
    if len(source) == 3:
        weights = weights.reshape(-1, *source).transpose(0, 3, 2, 1).reshape(len(weights), -1)
    if len(target) == 3:
        weights = weights.reshape(*target, -1).transpose(2, 1, 0, 3).reshape(len(weights), -1)
    return np.ascontiguousarray(weights).astype(np.int32)


def fixed(s):
    options = {key: s[key] for key in ("weight_exp", "num_weight_bits", "num_message_bits")}
    if s["sign_mode"] is not None:
        options["sign_mode"] = SignMode[s["sign_mode"].upper()]
    return options


def synapses(s, source, target):
    if s["kind"] == "dense":
        weights = matrix(s["weights"], source, target)
        if s["delays"] is None:
            return Dense(weights=weights, **fixed(s))
        return DelayDense(weights=weights, delays=matrix(s["delays"], source, target).astype(int), **fixed(s))
    if s["kind"] == "sparse":
        full = np.zeros(s["shape"], np.int32)
        full[s["post"], s["pre"]] = s["weights"]
        return Sparse(weights=csr_matrix(matrix(full, source, target)), **fixed(s))
    if s["kind"] == "tapconv":
        from snncc_procs.tapconv import TapConv

        geometry = {key: s[key] for key in ("stride", "padding", "dilation", "groups")}
        shapes = {"in_shape": tuple(reversed(source)), "out_shape": tuple(reversed(target))}
        return TapConv(weight=s["weights"].astype(np.int32), geometry=geometry, **shapes, name=None)
    return Conv(
        weight=np.ascontiguousarray(s["weights"][:, :, ::-1, ::-1].transpose(0, 3, 2, 1)).astype(np.int32),
        input_shape=tuple(reversed(source)),
        groups=s["groups"],
        num_message_bits=s["num_message_bits"],
        **{key: tuple(reversed(s[key])) for key in ("stride", "padding", "dilation")},
    )


def connect(link, shapes, ports, made):
    """Wire one link; the processes between its ends."""
    source, target = shapes[link["source"]], shapes[link["target"]]
    port, receiver = ports[link["source"]], made[link["target"]].a_in
    if link["wait"]:
        from snncc_procs.delay import DelayLine

        line = DelayLine(shape=tuple(reversed(source)), delay=link["wait"], name=None)
        port.connect(line.s_in)
        port = line.s_out
    if link["synapses"] is None:
        port.connect(receiver)
        return
    process = synapses(link["synapses"], source, target)
    if port.shape != process.s_in.shape:
        port = port.reshape(process.s_in.shape)
    port.connect(process.s_in)
    sums = process.a_out
    (sums if sums.shape == receiver.shape else sums.reshape(receiver.shape)).connect(receiver)


def load(name):
    case = json.loads((FOLDER / f"{name}.json").read_text())
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)

    def joined(value):
        if isinstance(value, dict):
            if set(value) == {"array"}:
                return arrays[f"arr_{value['array']}"]
            return {k: joined(v) for k, v in value.items()}
        return [joined(v) for v in value] if isinstance(value, list) else value

    return joined(case)


def run(case):
    sources = {
        n: RingBuffer(data=np.ascontiguousarray(x.T).astype(np.int32)) for n, x in case["inputs"].items()
    }
    made = {n: population(n, p, case) for n, p in case["populations"].items()}
    shapes = {n: list(x.shape[1:]) for n, x in case["inputs"].items()}
    shapes |= {n: p["shape"] for n, p in case["populations"].items()}
    ports = {n: p.s_out for n, p in (sources | made).items()}
    for link in case["links"]:
        connect(link, shapes, ports, made)
    first = next(iter(made.values()))
    first.run(condition=RunSteps(num_steps=case["steps"]), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    first.stop()


def main():
    watch_all_models()
    for name in NAMES:
        try:
            run(load(name))
        except BaseException:
            end_all()
        print(name, flush=True)


if __name__ == "__main__":
    main()

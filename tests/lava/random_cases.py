"""Random cases for Lava: single layers of every kind, aimed at the edges of each rule, and networks."""

import numpy as np

import fixed_cases
from snncc.errors import CapacityError

STEPS = 20
EDGE_WEIGHTS = np.array([-256, -255, -129, -128, -127, -3, -2, -1, 0, 1, 2, 3, 127, 128, 254, 255])


def pick(rng, *values):
    return values[rng.integers(len(values))]


def number(rng, low, high):
    """An integer low..high."""
    return int(rng.integers(low, high + 1))


def weights(rng, shape):
    """Of one of the kinds that sign modes, clipping and dropped bits distinguish."""
    kind = number(rng, 0, 6)
    if kind == 0:
        return rng.choice(EDGE_WEIGHTS, shape)
    low, high = [(-256, 255), (0, 255), (-255, 0), (-320, 320), (-20, 20), (-127, 127)][kind - 1]
    return rng.integers(low, high + 1, shape)


def spikes(rng, shape, graded):
    """Events of T steps; with a payload, of either sign, where they are graded."""
    fired = rng.random((STEPS, *shape)) < pick(rng, 0.1, 0.4, 0.9)
    return fired * rng.integers(-9, 40, fired.shape) if graded else fired.astype(np.int64)


def matrix_options(rng):
    return {
        "weight_exp": pick(rng, 0, 0, *range(-7, 8)),
        "num_weight_bits": pick(rng, 8, 8, *range(1, 8)),
        "num_message_bits": pick(rng, 0, 0, 8),
        "sign_mode": pick(rng, None, None, None, "mixed", "excitatory", "inhibitory"),
    }


def dense(rng, inputs, outputs, delayed=False):
    delays = rng.integers(0, pick(rng, 1, 3, 7) + 1, (outputs, inputs)) if delayed else None
    return {
        "kind": "dense",
        "weights": weights(rng, (outputs, inputs)),
        "delays": delays,
        **matrix_options(rng),
    }


def sparse(rng, inputs, outputs):
    there = np.argwhere(rng.random((outputs, inputs)) < 0.3)
    values = weights(rng, len(there))
    return {
        "kind": "sparse",
        "shape": [outputs, inputs],
        "post": there[:, 0],
        "pre": there[:, 1],
        "weights": values,
        **matrix_options(rng),
    }


def conv(rng, shape, kind="conv"):
    """A convolution of maps [C, H, W], and its output shape."""
    groups = pick(rng, *(g for g in (1, 1, 2, 3) if shape[0] % g == 0))
    out = groups * number(rng, 1, 3)
    stride, padding, dilation = (
        [number(rng, low, high), number(rng, low, high)] for low, high in ((1, 3), (0, 2), (1, 2))
    )
    kernel = [number(rng, 1, 3), number(rng, 1, 3)]
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(shape[1:], padding, dilation, kernel, stride, strict=True)
    ]
    if min(size) < 1:
        return conv(rng, shape, kind)
    w_shape = (out, shape[0] // groups, *kernel)
    large = kind == "conv" and rng.random() < 0.3  # sums that wrap at 24 bits
    w = rng.integers(-(1 << 19), 1 << 19, w_shape) if large else weights(rng, w_shape)
    bits = 8 if kind == "tapconv" or large else pick(rng, 0, 0, 8)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    word = 32 if kind == "tapconv" else 24
    return {"kind": kind, "weights": w, **geometry, "num_message_bits": bits, "sum_bits": word}, [out, *size]


def maps(rng):
    """An input shape with C, H, W all different."""
    h = number(rng, 5, 8)
    return [pick(rng, 1, 2, 3), h, h + pick(rng, -1, 1, 3)]


# ---- neurons ------------------------------------------------------------------------------------------


def lif(rng, shape, reset=False):
    per_neuron = rng.random() < 0.5
    mant = pick(rng, 0, 3, 64, 4095)
    return {
        "kind": "lif",
        "shape": shape,
        "vth": 0,
        "du": pick(rng, 4095, 4095, 0, 1, 4094, 2048, number(rng, 0, 4095)),
        "dv": pick(rng, 0, 0, 1, 4095, 4096, 163, number(rng, 0, 4095)),
        "bias_mant": rng.integers(-mant - (mant > 0), mant + 1, shape)
        if per_neuron
        else number(rng, -mant, mant),
        "bias_exp": rng.integers(-3, 8, shape) if rng.random() < 0.3 else pick(rng, 6, 6, 0, 7, -1, -4),
        "v_init": rng.integers(-5000, 5001, shape) if rng.random() < 0.3 else 0,
        "reset_interval": number(rng, 1, 7) if reset else 0,
        "reset_offset": number(rng, 0, 9) if reset else 0,
        "begin": 0,
        "end": None,
    }


def started_lif(rng, shape):
    """Our start of Lava's LIF: micro-steps before ``begin`` and behind its last timestep are silent."""
    first = number(rng, 2, 6)
    steps = number(rng, 5, STEPS - first)
    times = {"first": first, "steps": steps, "micro_steps": 1}
    return lif(rng, shape) | {
        "bias_exp": 6,
        "begin": number(rng, 0, first),
        "end": first + steps,
        "started": times,
    }


def window(rng, shape):
    """Our population: windows of spikes, graded counts, readouts, and soft reset of each step."""
    d = pick(rng, 0, 1, 1, 3, 4)
    graded = d > 1 and rng.random() < 0.4
    micro_steps = (
        1 if d < 2 and rng.random() < 0.7 else pick(rng, 1, 2) if graded else max(1, d + pick(rng, 0, 1))
    )
    threshold = number(rng, 40, 900)
    first = number(rng, 0, 4)
    leaky, synaptic = rng.random() < 0.5, rng.random() < 0.3
    made = {
        "kind": "population",
        "shape": shape,
        "threshold": threshold,
        "max_spikes": d,
        "micro_steps": micro_steps,
        "steps": number(rng, 2, (STEPS - first) // micro_steps),
        "first": first,
        "begin": number(rng, 0, first) if micro_steps == 1 else first,
        "gain": pick(rng, 1, 1, 2, 64),
        "bias": rng.integers(-60, 61, shape[:1]) if rng.random() < 0.5 else number(rng, -60, 60),
        "precharge": 0 if d == 0 else pick(rng, 0, -1, threshold // 2),
        "decay": number(rng, 0, 4096) if leaky else 1,
        "decay_bits": 12 if leaky else 0,
        "synapse_decay": number(rng, 1, 4095) if synaptic else 0,
        "synapse_bits": 12 if synaptic else 0,
        "reset": pick(rng, "subtract", "subtract", "value"),
        "reset_by": pick(rng, None, None, threshold // 2, 2 * threshold),
        "reset_to": pick(rng, 0, 0, 17, -30),
        "v_min": pick(rng, None, None, 0, -100),
        "graded": graded,
        "state_bits": pick(rng, 24, 24, 12),
        "v_init": rng.integers(-300, 301, shape[:1]) if rng.random() < 0.5 else 0,
    }
    return made | {"signed": graded and made["reset"] == "subtract" and threshold % 2 == 0}


def streaming(rng, shape):
    threshold, most = number(rng, 40, 900), pick(rng, 0, 1, 3, 5)
    return {
        "kind": "streaming",
        "shape": shape,
        "threshold": threshold,
        "max_spikes": most,
        "capped": bool(rng.integers(2)),
        "first": number(rng, 0, 4),
        "end": number(rng, STEPS - 5, STEPS),
        "gain": pick(rng, 1, 2),
        "bias": rng.integers(-60, 61, shape[:1]),
        "precharge": threshold // 2 if most else 0,
        "state_bits": pick(rng, 24, 12),
        "v_init": number(rng, -50, 50),
    }


def graded(rng, shape):
    return {"kind": "graded", "shape": shape, "vth": number(rng, 0, 300), "relu": bool(rng.integers(2))}


def set_thresholds(rng, case):
    """Choose LIF thresholds at membranes that occur; where possible exactly at one, which must not fire."""
    for p in case["populations"].values():
        if p["kind"] != "lif":
            continue
        p["vth"] = (1 << 17) - 1
        (name,) = (n for n, q in case["populations"].items() if q is p)
        reached = fixed_cases.emulate(case)[name]["v"]
        positive = np.sort(reached[reached > 0])
        if not len(positive) or rng.random() < 0.15:
            continue  # stays silent, so that saturation shows
        exact = positive[positive % 64 == 0]
        chosen = exact if len(exact) and rng.random() < 0.7 else positive
        p["vth"] = min(int(chosen[len(chosen) * number(rng, 2, 9) // 10]) >> 6, (1 << 17) - 1)
    return case


# ---- cases --------------------------------------------------------------------------------------------


def case(name, inputs, populations, links):
    return {"name": name, "steps": STEPS, "inputs": inputs, "populations": populations, "links": links}


def link(source, target, synapses, wait=0):
    return {"source": source, "target": target, "synapses": synapses, "wait": wait}


def direct(rng, i):
    """Sums straight into neurons: wraps of u, saturation of v, leaks over large values."""
    shape = [number(rng, 3, 9)]
    size = 1 << pick(rng, 5, 8, 13, 17, 18, 20, 22)
    x = rng.integers(-size, size + 1, (STEPS, *shape))
    x[rng.random(x.shape) < 0.1] = pick(rng, 1 << 17, -(1 << 17), (1 << 17) - 1)  # u exactly at its limit
    neurons = [lif, lambda r, s: lif(r, s, reset=True), graded, started_lif, window, streaming, lif][i % 7](
        rng, shape
    )
    return {"in": x}, {"n": neurons}, [link("in", "n", None)]


def flat(rng, i):
    """Dense, Sparse or DelayDense, one neuron population behind it."""
    inputs, outputs = number(rng, 5, 24), number(rng, 3, 10)
    made = (
        sparse(rng, inputs, outputs)
        if i % 3 == 0
        else dense(rng, inputs, outputs, delayed=i % 3 == 1 and i % 2 == 0)
    )
    neurons = pick(rng, lif, lif, lif, window, streaming, graded)(rng, [outputs])
    x = spikes(rng, [inputs], graded=rng.random() < 0.4)
    wait = number(rng, 1, 4) if i % 10 == 9 else 0
    return {"in": x}, {"n": neurons}, [link("in", "n", made, wait)]


def image(rng, i):
    shape = maps(rng)
    made, out = conv(rng, shape, "tapconv" if i % 8 == 7 else "conv")
    x = spikes(rng, shape, graded=made["num_message_bits"] > 0 or rng.random() < 0.2)
    return (
        {"in": x},
        {"n": pick(rng, lif, lif, lif, window, streaming, graded)(rng, out)},
        [link("in", "n", made)],
    )


def singles(count):
    """``count`` single layers."""
    made = []
    for i in range(count):
        rng = np.random.default_rng(100_000 + i)
        parts = [direct, flat, image, flat][i % 4](rng, i // 4)
        made.append(set_thresholds(rng, case(f"single-{i}", *parts)))
    return made


def net(i, seed):
    """2-4 layers behind a map, each reading one or two earlier ones, some with a loop of their own."""
    rng = np.random.default_rng(seed)
    shape = maps(rng)
    shapes, populations, links = {"in": shape}, {}, []
    for depth in range(number(rng, 2, 4)):
        name, last = f"n{depth}", list(shapes)[-1]
        if len(shapes[last]) == 3 and rng.random() < 0.6:
            made, out = conv(rng, shapes[last])
        else:
            out = pick(rng, [number(rng, 4, 9)], maps(rng))
            made = pick(rng, dense, sparse)(rng, int(np.prod(shapes[last])), int(np.prod(out)))
        links.append(link(last, name, made, pick(rng, 0, 0, 2)))
        if rng.random() < 0.5:
            other = pick(rng, *shapes)
            made = dense(rng, int(np.prod(shapes[other])), int(np.prod(out)), delayed=rng.random() < 0.4)
            links.append(link(other, name, made))
        if rng.random() < 0.25:
            links.append(link(name, name, dense(rng, int(np.prod(out)), int(np.prod(out)))))
        populations[name] = pick(rng, lif, lif, started_lif, window, window, streaming, graded)(rng, out)
        shapes[name] = out
    x = {"in": spikes(rng, shape, graded=rng.random() < 0.3)}
    try:
        fixed_cases.emulate(case("", x, populations, links))
    except CapacityError:  # payloads grow from layer to layer beyond Lava's own word
        return net(i, seed + 1000)
    return set_thresholds(rng, case(f"net-{i}", x, populations, links))


def networks(count):
    """``count`` networks."""
    return [net(i, 200_000 + i) for i in range(count)]

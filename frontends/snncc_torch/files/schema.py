"""What attributes a module of each allowed class has, and of which types and sizes.

torch would restore any attribute under any name: a stride that is text, a ``forward`` that is
data, a hook. Every attribute of every module in a file is compared with these tables first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from snncc.errors import Problem, problem
from snncc.safeio import shown
from snncc_torch.files.pickletree import Obj, Ordered, TensorRef

Check = Callable[[Any], bool]

# No layer of a network has a kernel, stride or padding beyond this; torch would allocate for it.
MAX_GEOMETRY = 256
MAX_COUNT = 2**24
MAX_DEPTH = 100


def _bool(v: Any) -> bool:
    return type(v) is bool


def _text(v: Any) -> bool:
    return type(v) is str and len(v) < 100


def _real(v: Any) -> bool:
    return type(v) in (int, float) and math.isfinite(v)


def _number(v: Any) -> bool:
    """A number of any size: NaN and infinity are reported with the layer they belong to."""
    return type(v) in (int, float)


def _count(v: Any) -> bool:
    return type(v) is int and 0 < v <= MAX_COUNT


def _axis(v: Any) -> bool:
    return type(v) is int and -16 <= v <= 16


def _positive(v: Any) -> bool:
    return type(v) is int and 0 < v <= MAX_GEOMETRY


def _size(v: Any) -> bool:
    return type(v) is int and 0 <= v <= MAX_GEOMETRY


def _tuple_of(check: Check, length: int) -> Check:
    return lambda v: check(v) or (isinstance(v, tuple) and len(v) == length and all(map(check, v)))


def _pair_of(check: Check) -> Check:
    return _tuple_of(check, 2)


def _sizes(v: Any) -> bool:
    return isinstance(v, tuple | list) and len(v) <= 8 and all(map(_size, v))


def _optional(check: Check) -> Check:
    return lambda v: v is None or check(v)


def _among(*values: Any) -> Check:
    return lambda v: any(type(v) is type(w) and v == w for w in values)


def _nothing(v: Any) -> bool:
    return v is None


def _tensor(v: Any) -> bool:
    return isinstance(v, TensorRef)


def _empty(v: Any) -> bool:
    return isinstance(v, dict | set) and not v


def _memories(v: Any) -> bool:
    """State of a spikingjelly module: potentials and masks by name."""
    plain = isinstance(v, dict) and all(_text(k) for k in v)
    return plain and all(x is None or _number(x) or _tensor(x) for x in v.values())


def _names(v: Any) -> bool:
    return isinstance(v, tuple | list) and len(v) < 10 and all(map(_text, v))


def _shape(v: Any) -> bool:
    ok = isinstance(v, tuple | list) and 0 < len(v) <= 8 and all(map(_count, v))
    return ok and math.prod(v) <= 2**28


def _unflattened(v: Any) -> bool:
    return (
        isinstance(v, tuple | list)
        and len(v) <= 8
        and all(type(n) is int and -1 <= n <= MAX_COUNT for n in v)
    )


@dataclass(frozen=True)
class ClassSchema:
    """Attributes of one class beside those of every nn.Module.

    Attributes:
        attributes: check of each plain attribute; all must be there.
        parameters: rank of each parameter; a parameter may be None.
        buffers: rank of each buffer; a buffer may be None.
        children: names of the child modules, or None for a container of any names.
        optional: names of further children, which are None where they are absent.
    """

    attributes: dict[str, Check] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    buffers: dict[str, int] = field(default_factory=dict)
    children: tuple[str, ...] | None = ()
    optional: tuple[str, ...] = ()


_HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_MODULE: dict[str, Check] = {
    "training": _bool,
    "_non_persistent_buffers_set": _empty,
    "_is_full_backward_hook": _nothing,
    **dict.fromkeys(_HOOKS, _empty),
}
_STRUCTURE = ("_parameters", "_buffers", "_modules")


def _conv(axes: int) -> ClassSchema:
    sizes = _tuple_of(_positive, axes)
    return ClassSchema(
        {
            "in_channels": _count, "out_channels": _count, "kernel_size": sizes, "stride": sizes,
            "padding": lambda v: v in ("same", "valid") if type(v) is str else _tuple_of(_size, axes)(v),
            "dilation": sizes, "transposed": _among(False), "output_padding": _sizes, "groups": _count,
            "padding_mode": _among("zeros", "reflect", "replicate", "circular"),
            "_reversed_padding_repeated_twice": _sizes,
        },
        {"weight": axes + 2, "bias": 1},
    )  # fmt: skip


_CONV2D = _conv(2)
_LINEAR = ClassSchema({"in_features": _count, "out_features": _count}, {"weight": 2, "bias": 1})
_BATCHNORM = ClassSchema(
    {
        "num_features": _count, "eps": _real, "momentum": _optional(_real), "affine": _bool,
        "track_running_stats": _bool,
    },
    {"weight": 1, "bias": 1},
    {"running_mean": 1, "running_var": 1, "num_batches_tracked": 0},
)  # fmt: skip
_AVGPOOL = ClassSchema({
    "kernel_size": _pair_of(_positive), "stride": _pair_of(_positive), "padding": _pair_of(_size),
    "ceil_mode": _bool, "count_include_pad": _bool, "divisor_override": _optional(_count),
})  # fmt: skip
_MAXPOOL = ClassSchema({
    "kernel_size": _pair_of(_positive), "stride": _pair_of(_positive), "padding": _pair_of(_size),
    "dilation": _pair_of(_positive), "return_indices": _bool, "ceil_mode": _bool,
})  # fmt: skip
_ADAPTIVE = ClassSchema({"output_size": _pair_of(_optional(_positive))})
_FLATTEN = ClassSchema({"start_dim": _axis, "end_dim": _axis})
_UNFLATTEN = ClassSchema({"dim": _axis, "unflattened_size": _unflattened})
_DROPOUT = ClassSchema({"p": _real, "inplace": _bool})
_INPLACE = ClassSchema({"inplace": _bool})
_CONTAINER = ClassSchema(children=None)
_PLAIN = ClassSchema()

_INTEGRATOR: dict[str, Check] = {
    "v_threshold": _number, "v_reset": _optional(_number), "step_mode": _among("m", "s"), "alpha": _number,
}  # fmt: skip

_OWN = {
    "SFA": ClassSchema({"D": _positive, "normalize": _bool}),
    "ILIF": ClassSchema({**_INTEGRATOR, "D": _positive, "decay": _number, "normalize": _bool}),
    "IF": ClassSchema(_INTEGRATOR),
    "LIF": ClassSchema({**_INTEGRATOR, "tau": _number, "decay_input": _bool}),
    "PerStep": _CONTAINER,
    "OverTime": ClassSchema({"mean": _bool}),
    "Residual": ClassSchema(children=("body", "shortcut")),
}

_MASKED = {
    "Mask2d": ClassSchema(buffers={"kept": 2}),
    "MaskedBatchNorm2d": _BATCHNORM,
    "MaskedConv2d": ClassSchema(
        {**_CONV2D.attributes, "mode": _among("mask", "centre")}, _CONV2D.parameters,
        {"mask": 2, "kept": 2}, optional=("norm",),
    ),
}  # fmt: skip

_STEPS: dict[str, Check] = {"T": _positive}
_HEADS: dict[str, Check] = {"heads": _count, "scale": _real}
_ATTENTION = ClassSchema(
    {**_HEADS, "keys_first": _bool, "maps": _bool}, children=("pre", "q", "k", "v", "spike", "proj")
)
_ZOO = {
    "blocks.StepClassifier": ClassSchema(_STEPS, children=("stem", "blocks", "head")),
    "blocks.Block": ClassSchema(children=("attention", "mlp")),
    "blocks.SelfAttention": _ATTENTION,
    "blocks.Head": ClassSchema(
        {"space": lambda v: isinstance(v, tuple) and 0 < len(v) < 4 and all(map(_axis, v)), "steps": _bool,
         "mean_first": _bool},
        children=("fc",), optional=("neuron", "fc_distill"),
    ),
    "dense.Detector": ClassSchema(children=("stages", "laterals", "merge", "mixed", "predict")),
    "dense.Segmenter": ClassSchema(children=("stages", "laterals", "fuse", "classify")),
    "efficient.ESpikeFormer": ClassSchema(children=("stem", "blocks", "head")),
    "masked.MaskedEncoder": ClassSchema(children=("cover", "encoder", "neuron")),
    "metaformers.BNAndPad": ClassSchema({"pixels": _size}, children=("bn",)),
    "ms.MSResNet": ClassSchema(_STEPS, children=("stem", "blocks", "spike", "average", "dropout", "fc")),
    "pyramid.LayerScale": ClassSchema(parameters={"factor": 1}, children=("body",)),
    "pyramid.OnTokens": ClassSchema(children=("body",)),
    "sdt.MaskAttention": _ATTENTION,
    "sew.SEWBlock": ClassSchema(
        {"connect": _among("ADD", "AND", "IAND"), "outputs": _count}, children=("body", "shortcut")
    ),
    "sew.SEWResNet": ClassSchema(_STEPS, children=("stem", "spike", "pool", "blocks", "average", "fc")),
    "spikformers.ToTokens": _PLAIN,
    "spikformers.TokenAttention": ClassSchema(_HEADS, children=("q", "k", "v", "spike", "proj")),
    "spikformers.TokenLinear": ClassSchema(children=("linear", "norm")),
}  # fmt: skip

_TORCH = {
    "container.Sequential": _CONTAINER, "container.ModuleList": _CONTAINER, "linear.Identity": _PLAIN,
    "linear.Linear": _LINEAR, "conv.Conv1d": _conv(1), "conv.Conv2d": _CONV2D,
    "batchnorm.BatchNorm1d": _BATCHNORM,
    "batchnorm.BatchNorm2d": _BATCHNORM, "pooling.AvgPool2d": _AVGPOOL, "pooling.MaxPool2d": _MAXPOOL,
    "pooling.AdaptiveAvgPool2d": _ADAPTIVE, "flatten.Flatten": _FLATTEN, "flatten.Unflatten": _UNFLATTEN,
    "dropout.Dropout": _DROPOUT, "dropout.Dropout1d": _DROPOUT, "dropout.Dropout2d": _DROPOUT,
    # Not compiled, but read, so that the message can name the layer in its place.
    "activation.ReLU": _INPLACE, "activation.Sigmoid": _PLAIN, "activation.Tanh": _PLAIN,
}  # fmt: skip

_SJ = "spikingjelly.activation_based"
_SJ_NODE: dict[str, Check] = {
    "_memories": _memories, "_memories_rv": _memories, "_step_mode": _among("m", "s"), "v_threshold": _number,
    "v_reset": _optional(_number), "detach_reset": _bool, "_store_v_seq": _bool,
}  # fmt: skip
# Attributes that only some versions of spikingjelly have; none changes what the neuron computes.
_SJ_EXTRA: dict[str, Check] = {
    "_neuron_precision": _nothing, "v_seq": _optional(_tensor), "lava_s_cale": _number,
    "_backend": _among("torch"),
}  # fmt: skip
_SURROGATES = (
    "Sigmoid", "ATan", "PiecewiseQuadratic", "PiecewiseExp", "SoftSign", "SuperSpike", "Erf", "Rect",
    "PiecewiseLeakyReLU", "LeakyKReLU", "NonzeroSignLogAbs", "S2NN", "QPseudoSpike", "LogTailedReLU",
    "MultiLevelSpikeCount",
)  # fmt: skip
_SURROGATE = ClassSchema({"spiking": _bool})
_SURROGATE_EXTRA: dict[str, Check] = {
    "_sg_param_names": _names, "alpha": _number, "beta": _number, "w": _number, "c": _number, "leak": _number,
    "k": _number, "n": _number, "T_period": _number, "max_spike_count": _positive, "grad_min": _number,
    "grad_max": _number,
}  # fmt: skip


def _stepped(schema: ClassSchema) -> ClassSchema:
    """A torch layer as spikingjelly wraps it, which adds the step mode."""
    return ClassSchema(
        {**schema.attributes, "_step_mode": _among("m", "s")},
        schema.parameters,
        schema.buffers,
        schema.children,
    )


def _sj_dropout() -> ClassSchema:
    return ClassSchema(
        {"_memories": _memories, "_memories_rv": _memories, "_step_mode": _among("m", "s"), "p": _real}
    )


def _spikingjelly() -> dict[str, ClassSchema]:
    child = ("surrogate_function",)
    nodes = {
        "integrate_and_fire.IFNode": ClassSchema(_SJ_NODE, children=child),
        "lif.LIFNode": ClassSchema({**_SJ_NODE, "tau": _number, "decay_input": _bool}, children=child),
        "plif.ParametricLIFNode": ClassSchema({**_SJ_NODE, "decay_input": _bool}, {"w": 0}, children=child),
        "ilif.ILIFNode": ClassSchema({**_SJ_NODE, "tau": _number, "decay_input": _bool}, children=child),
        "lif_variants.KLIFNode": ClassSchema(
            {**_SJ_NODE, "tau": _number, "decay_input": _bool, "scale_reset": _bool}, {"k": 0}, children=child
        ),
        "lif_variants.CUBALIFNode": ClassSchema(
            {**_SJ_NODE, "c_decay": _number, "v_decay": _number}, children=child
        ),
        "integrate_and_fire.HalfThresholdIFNode": ClassSchema(_SJ_NODE, children=child),
    }
    layers = {
        "Conv2d": _CONV2D, "Linear": _LINEAR, "AvgPool2d": _AVGPOOL, "MaxPool2d": _MAXPOOL,
        "AdaptiveAvgPool2d": _ADAPTIVE, "Flatten": _FLATTEN,
    }  # fmt: skip
    found = {f"{_SJ}.neuron.{name}": schema for name, schema in nodes.items()}
    found |= {f"{_SJ}.neuron.{name.partition('.')[2]}": schema for name, schema in nodes.items()}
    found |= {f"{_SJ}.layer.stateless_wrapper.{name}": _stepped(schema) for name, schema in layers.items()}
    found |= {f"{_SJ}.layer.{name}": _stepped(schema) for name, schema in layers.items()}
    for norm in ("BatchNorm1d", "BatchNorm2d"):
        found[f"{_SJ}.layer.bn.{norm}"] = found[f"{_SJ}.layer.{norm}"] = _stepped(_BATCHNORM)
    for drop in ("Dropout", "Dropout2d"):
        found[f"{_SJ}.layer.dropout.{drop}"] = found[f"{_SJ}.layer.{drop}"] = _sj_dropout()
    found[f"{_SJ}.layer.container.SeqToANNContainer"] = _CONTAINER
    found |= {f"{_SJ}.surrogate.{name}": _SURROGATE for name in _SURROGATES}
    return found


CLASSES: dict[str, ClassSchema] = {
    **{f"torch.nn.modules.{name}": schema for name, schema in _TORCH.items()},
    **{f"snncc_torch.nn.{name}": schema for name, schema in _OWN.items()},
    **{f"snncc_torch.masked.{name}": schema for name, schema in _MASKED.items()},
    **{f"snncc_torch.zoo.{name}": schema for name, schema in _ZOO.items()},
    **_spikingjelly(),
}

_ABOUT: dict[str, Check] = {
    "input_shape": _shape, "timesteps": lambda v: type(v) is int and 0 < v <= 100_000,
    "input_levels": lambda v: type(v) is int and 0 <= v <= MAX_COUNT,
    "calibration": _tensor, "labels": _tensor,
}  # fmt: skip
_ABOUT_NEEDED = ("input_shape", "timesteps", "input_levels")


def module_problems(root: Obj, attribute: str) -> Iterator[Problem]:
    """Everything in a module tree that no module has.

    Args:
        root: the model.
        attribute: name of the one extra attribute that the root may have (see ``describe``).
    """
    yield from _check_module(root, "model", (), attribute)


def _bad(where: str, what: str, got: Any = None) -> Problem:
    return problem("SNNC-M009", where, what, got=None if got is None else _brief(got))


def _brief(value: Any) -> str:
    if isinstance(value, Obj):
        return f"a {shown(value.cls)}"
    if isinstance(value, TensorRef):
        return f"a tensor {list(value.size)}"
    return (
        shown(repr(value), 60)
        if isinstance(value, str | int | float | tuple)
        else f"a {type(value).__name__}"
    )


def _check_module(module: Obj, path: str, above: tuple[int, ...], attribute: str = "") -> Iterator[Problem]:
    if id(module) in above or len(above) > MAX_DEPTH:
        yield _bad(path, "contains itself or is nested too deep")
        return
    schema, state = CLASSES[module.cls], module.state
    if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
        yield _bad(path, "has no attributes", state)
        return
    extra = _extra(module.cls)
    for key, value in state.items():
        check = _MODULE.get(key) or schema.attributes.get(key) or extra.get(key)
        check = _nothing if key in schema.optional else check
        if check is not None:
            if not check(value):
                yield _bad(path, f"attribute {key} has a value it cannot have", value)
        elif key == attribute:
            yield from _check_about(value, f"{path}.{attribute}")
        elif key not in _STRUCTURE:
            yield _bad(path, f"has an attribute that its class {module.cls.rpartition('.')[2]} lacks", key)
    children = state.get("_modules", {})
    absent = (key for key in schema.optional if isinstance(children, dict) and key not in children)
    for key in (*_STRUCTURE, "training", *schema.attributes, *absent):
        if key not in state:
            yield _bad(path, f"lacks the attribute {key}")
    yield from _check_tensors(state.get("_parameters", {}), schema.parameters, f"{path}: parameter")
    yield from _check_tensors(state.get("_buffers", {}), schema.buffers, f"{path}: buffer")
    yield from _check_children(children, schema, path, (*above, id(module)))


def _extra(cls: str) -> dict[str, Check]:
    if cls.startswith(f"{_SJ}.neuron."):
        return _SJ_EXTRA
    return _SURROGATE_EXTRA if cls.startswith(f"{_SJ}.surrogate.") else {}


def _check_tensors(found: Any, ranks: dict[str, int], what: str) -> Iterator[Problem]:
    if not isinstance(found, dict) or set(found) != set(ranks):
        yield _bad(
            what,
            "names differ from the class's",
            sorted(map(str, found)) if isinstance(found, dict) else found,
        )
        return
    for name, value in found.items():
        if value is None:
            continue
        dtype = value.storage.dtype if isinstance(value, TensorRef) else ""
        right = "int64" if name == "num_batches_tracked" else "float"
        if not dtype.startswith(right) and dtype != "bfloat16":
            yield _bad(f"{what} {name}", "is no tensor of the right kind", value)
        elif len(value.size) != ranks[name]:
            yield _bad(f"{what} {name}", f"must have {ranks[name]} axes", value)


def _check_children(found: Any, schema: ClassSchema, path: str, above: tuple[int, ...]) -> Iterator[Problem]:
    ok = isinstance(found, dict) and all(
        type(k) is str and k and "." not in k and len(k) < 200 for k in found
    )
    needed = None if schema.children is None else set(schema.children)
    if not ok or (needed is not None and not needed <= set(found) <= needed | set(schema.optional)):
        yield _bad(
            path,
            "has child modules that its class lacks",
            sorted(map(str, found)) if isinstance(found, dict) else found,
        )
        return
    for name, child in found.items():
        below = name if path == "model" else f"{path}.{name}"
        if not isinstance(child, Obj) or child.cls not in CLASSES:
            yield _bad(shown(below), "is no module", child)
        else:
            yield from _check_module(child, shown(below), above)


def _check_about(about: Any, where: str) -> Iterator[Problem]:
    if type(about) is not dict or not set(_ABOUT_NEEDED) <= set(about):
        yield _bad(where, "is not what snncc_torch.describe writes", about)
        return
    for key, value in about.items():
        check = _ABOUT.get(key) if isinstance(key, str) else None
        if check is None or not check(value):
            yield _bad(where, f"{shown(str(key))} has a value it cannot have", value)


def is_state_dict(tree: Any) -> bool:
    """Whether a tree is tensors by name."""
    return (
        isinstance(tree, Ordered | dict)
        and bool(tree)
        and all(isinstance(k, str) and isinstance(v, TensorRef) for k, v in tree.items())
    )

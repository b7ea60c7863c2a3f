"""The weights in a state dict or a training checkpoint, taken out of the file as bytes.

torch is not asked to load the file: its ``weights_only`` refuses the settings that training scripts
store beside the weights, and here they are of no interest. A file's pickle was read as data before
(:mod:`snncc_torch.files.pickletree`); its tensors are put together from the bytes that lie beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from snncc.errors import SnnccError, fail
from snncc.safeio import shown
from snncc_torch.files.pickletree import Obj, TensorRef
from snncc_torch.files.schema import is_state_dict

# Where training scripts keep the weights inside a checkpoint.
STATE_KEYS = ("state_dict", "model_state_dict", "model", "net")
# Weights averaged over training: taken where there are no others, for a file of both says nowhere
# which of them its accuracy belongs to.
AVERAGED_KEYS = ("state_dict_ema", "model_ema")
# What DataParallel and torch.compile put before every name.
WRAPPERS = ("module.", "_orig_mod.")

EXPORT_HINT = "snncc.export(module, example_input, 'model.snnc') in the training script"
WEIGHTS_HINT = f"--model pkg.mod:factory --weights FILE, or {EXPORT_HINT}"


def weights_in(tree: Any, where: str) -> tuple[dict[str, TensorRef], tuple[str, ...]]:
    """The state dict of a file, and notes on which one was taken.

    Raises:
        ModelError: SNNC-M001 if it holds none under a usual key.
    """
    if is_state_dict(tree):
        return tree, ()
    found = [
        k for k in (*STATE_KEYS, *AVERAGED_KEYS) if isinstance(tree, dict) and is_state_dict(tree.get(k))
    ]
    if not found:
        limit = f"a state dict, or one under {', '.join((*STATE_KEYS, *AVERAGED_KEYS))}"
        raise fail("SNNC-M001", where, "holds no weights", got=contents(tree), limit=limit)
    others = f"; not those under {', '.join(found[1:])}" if found[1:] else ""
    averaged = ", which are averaged over training" if found[0] in AVERAGED_KEYS else ""
    note = f"weights: those under {found[0]} in the checkpoint{averaged}{others}"
    return tree[found[0]], (note,)


def no_module(tree: Any, where: str) -> SnnccError:
    """The error for a file that holds no network, which says what it holds and what to do."""
    if is_state_dict(tree):
        what = "holds weights without the network that they belong to"
        return fail("SNNC-M003", where, what, got=f"a state dict of {len(tree)} tensors", hint=WEIGHTS_HINT)
    if isinstance(tree, dict) and any(is_state_dict(v) for v in tree.values()):
        what = "is a training checkpoint without the network that its weights belong to"
        return fail("SNNC-M003", where, what, got=contents(tree), hint=WEIGHTS_HINT)
    if isinstance(tree, dict) and any(_is_module(v) for v in tree.values()):
        key = next(shown(repr(k), 40) for k, v in tree.items() if _is_module(v))
        what, hint = (
            "is a training checkpoint around a whole network",
            f"torch.save(checkpoint[{key}], path), or {EXPORT_HINT}",
        )
        return fail("SNNC-M003", where, what, got=contents(tree), hint=hint)
    return fail("SNNC-M001", where, "holds no model", got=contents(tree), hint=EXPORT_HINT)


def contents(tree: Any) -> str:
    """What a file holds, in a few words."""
    if not isinstance(tree, dict):
        return "a tensor" if isinstance(tree, TensorRef) else f"a {type(tree).__name__}"
    listed = ", ".join(_entry(key, value) for key, value in list(tree.items())[:8])
    more = ", …" if len(tree) > 8 else ""
    return f"a dict of {len(tree)} entries: {listed}{more}" if tree else "an empty dict"


def _entry(key: Any, value: Any) -> str:
    name = shown(str(key), 40) if isinstance(key, str | int) else "?"
    if is_state_dict(value):
        return f"{name} ({len(value)} tensors)"
    return f"{name} ({shown(value.cls, 60)})" if isinstance(value, Obj) else name


def _is_module(value: Any) -> bool:
    return isinstance(value, Obj) and isinstance(value.state, dict) and "_modules" in value.state


def tensors(refs: Mapping[str, TensorRef], storages: Mapping[str, bytes]) -> dict[str, Tensor]:
    """Tensors of their own memory; those that share a storage in the file share it here."""
    made: dict[tuple[str, torch.dtype], Tensor] = {}
    found = {}
    for name, ref in refs.items():
        dtype = getattr(torch, ref.storage.dtype)
        data = storages[ref.storage.key]
        found[name] = tensor_over(made, ref.storage.key, data, dtype, ref.size, ref.stride, ref.offset)
    return found


def tensor_over(
    made: dict[tuple[str, torch.dtype], Tensor], key: str, data: bytes, dtype: torch.dtype,
    size: tuple[int, ...], stride: tuple[int, ...], offset: int,
) -> Tensor:  # fmt: skip
    """A tensor over the bytes of a storage, whose size was checked; ``made`` holds storages so far."""
    if (key, dtype) not in made:
        # A copy: torch writes into its tensors, and bytes must not change.
        flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        made[key, dtype] = flat
    return made[key, dtype].as_strided(size, stride, offset)


def unwrapped(weights: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """``weights`` without the names of wrappers, unless the names fit as they are."""
    named = dict(weights)
    while not set(named) & set(wanted):
        prefix = next((p for p in WRAPPERS if named and all(k.startswith(p) for k in named)), None)
        if prefix is None:
            break
        named = {key.removeprefix(prefix): value for key, value in named.items()}
    return named

"""One small instance of every architecture and variant, for tests that go through all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from snncc_torch.zoo.calibrate import calibrate_batchnorm
from snncc_torch.zoo.dense import e_spikeformer_detector, e_spikeformer_segmenter
from snncc_torch.zoo.efficient import e_spikeformer
from snncc_torch.zoo.masked import e_spikeformer_masked
from snncc_torch.zoo.metaformers import meta_spikeformer
from snncc_torch.zoo.ms import ms_resnet
from snncc_torch.zoo.sdt import spike_driven_transformer
from snncc_torch.zoo.sew import sew_resnet
from snncc_torch.zoo.spikformers import spikformer
from snncc_torch.zoo.spikingformers import spikingformer


@dataclass(frozen=True)
class Small:
    """A builder with the arguments that make its model small.

    Attributes:
        builder: of the zoo.
        args: its positional arguments.
        options: its keywords.
        shape: of one input, batch 1.
        mean: of :func:`calibrate_batchnorm`.
    """

    builder: Callable[..., nn.Module]
    args: tuple[Any, ...]
    options: Mapping[str, Any]
    shape: tuple[int, ...] = (1, 3, 32, 32)
    mean: float = 0.75

    def build(self) -> nn.Module:
        """The untrained module."""
        return self.builder(*self.args, **self.options)


def _former(builder: Callable[..., nn.Module], *args: Any, **options: Any) -> Small:
    """Two blocks of 32 channels and stem pooling to 4×4 tokens at 16 pixels."""
    small: dict[str, Any] = {"num_classes": 10, "img_size": 16, "T": 2, "heads": 2, "mlp_ratio": 2}
    small["pools"] = (False, True, False, True)
    return Small(builder, ("2-32", *args), {**small, **options}, (1, options.get("in_channels", 3), 16, 16))


def _sew(depth: int, connect: str, width: int) -> Small:
    options = {"num_classes": 10, "img_size": 32, "T": 2, "width": width, "layers": (1, 2, 1, 1)}
    return Small(sew_resnet, (depth, connect), options)


def _ms(depth: int) -> Small:
    options = {"num_classes": 10, "img_size": 32, "T": 2, "width": 8, "layers": (1, 2, 1, 1)}
    return Small(ms_resnet, (depth,), options)


def _meta(**options: Any) -> Small:
    small = {"num_classes": 10, "img_size": 32, "T": 2, "dims": (8, 12, 16, 24), "depths": (1, 1), "heads": 2}
    # Four tokens and heads of 8 channels drive the attention's neuron little: a larger factor.
    return Small(meta_spikeformer, ("8-384",), {**small, "mlp_ratio": 2, "scale": 1.0, **options})


def _efficient(name: str, dims: tuple[int, ...], mean: float = 0.5, **options: Any) -> Small:
    small = {"num_classes": 10, "img_size": 32, "D": 4, "dims": dims, "heads": 2, "mlp_ratio": 2}
    return Small(e_spikeformer, (name,), {**small, **options}, mean=mean)


def _frames(small: Small, mean: float, **options: Any) -> Small:
    """The same architecture on three binary event frames of two polarities."""
    shape = (3, 1, 2, *small.shape[-2:])
    return replace(
        small, options={**small.options, "T": 3, "in_channels": 2, **options}, shape=shape, mean=mean
    )


def _dense(builder: Callable[..., nn.Module], num_classes: int) -> Small:
    options = {"num_classes": num_classes, "img_size": 32, "dims": (8, 12, 16, 24), "depths": (1, 1)}
    return Small(
        builder, ("s",), {**options, "heads": 2, "mlp_ratio": 2, "expansion": 2, "width": 8}, mean=0.5
    )


_E_SMALL = _efficient("s", (8, 12, 16, 24), depths=(1, 1), expansion=2)
_MASKED: dict[str, Any] = {
    "img_size": 32, "D": 4, "dims": (8, 12, 16, 24), "depths": (1, 1), "heads": 2, "mlp_ratio": 2,
    "expansion": 2, "seed": 1,
}  # fmt: skip

REDUCED: dict[str, Small] = {
    "spikformer": _former(spikformer, linear=False),
    "spikformer-cml": _former(spikformer, True, linear=False),
    "spikformer-cifar": _former(spikformer, linear=True),
    "spikformer-cifar-cml": _former(spikformer, True, linear=True),
    "spikingformer": _former(spikingformer, keys_first=True),
    "spikingformer-cml": _former(spikingformer, True, keys_first=True),
    "spikingformer-cifar": _former(spikingformer, keys_first=False),
    "spikformer-events": _frames(_former(spikformer, linear=False), 0.75),
    "spikingformer-events": _frames(_former(spikingformer, tau=1.5, keys_first=False), 0.25),
    "sew-resnet-basic-add": _sew(34, "ADD", 8),
    "sew-resnet-basic-and": _sew(34, "AND", 8),
    "sew-resnet-basic-iand": _sew(34, "IAND", 8),
    "sew-resnet-bottleneck-add": _sew(50, "ADD", 4),
    "sew-resnet-bottleneck-and": _sew(50, "AND", 4),
    "sew-resnet-bottleneck-iand": _sew(50, "IAND", 4),
    "sew-resnet-events": _frames(_sew(34, "ADD", 8), 0.75),
    "ms-resnet-basic": _ms(34),
    "ms-resnet-104": _ms(104),
    "spike-driven-transformer": replace(_former(spike_driven_transformer), mean=0.25),
    "meta-spikeformer": _meta(),
    "meta-spikeformer-distilled": _meta(distill=True),
    "e-spikeformer": _E_SMALL,
    "e-spikeformer-integers": _efficient(
        "s", (8, 12, 16, 24), depths=(1, 1), mean=0.0, expansion=2, normalize=False
    ),
    # HAR-DVS has 346 × 260 pixels: wider than high here too.
    "e-spikeformer-events": _frames(replace(_E_SMALL, shape=(1, 3, 32, 48)), 0.25),
    "e-spikeformer-segmenter": _dense(e_spikeformer_segmenter, 5),
    "e-spikeformer-detector": _dense(e_spikeformer_detector, 3),
    "e-spikeformer-masked": Small(e_spikeformer_masked, ("s",), _MASKED, mean=0.5),
    "e-spikeformer-masked-centre": Small(
        e_spikeformer_masked, ("s",), {**_MASKED, "mode": "centre"}, mean=0.75
    ),
    "e-spikeformer-83M": _efficient("83M", (8, 12, 16), depths=(2, 0), scale=2.0, layer_scale=0.5),
    "e-spikeformer-173M": _efficient("173M", (8, 12, 16), depths=(2, 0), scale=2.0, layer_scale=0.5),
}


def reduced(name: str, calibrated: bool = True, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A small instance in evaluation mode and an input of batch 1 for it.

    The input of a name that ends in ``-events`` is binary frames [T, 1, 2, H, W]; all others take an
    image [1, 3, H, W] in [0, 1]. The global random state is left alone.

    Args:
        name: key of :data:`REDUCED`.
        calibrated: set BatchNorm statistics so that every neuron fires.
        seed: of weights and input.
    """
    if name not in REDUCED:
        raise ValueError(f"reduced: name must be one of {', '.join(REDUCED)}, got {name!r}")
    small = REDUCED[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = small.build().eval()
        batch_axis = len(small.shape) - 4
        shape = list(small.shape)
        shape[batch_axis] = 4
        images = torch.rand(shape)
        if batch_axis:
            images = (images < 0.3).to(images.dtype)
        if calibrated:
            calibrate_batchnorm(module, images, mean=small.mean)
    return module, images.narrow(batch_axis, 0, 1).clone()

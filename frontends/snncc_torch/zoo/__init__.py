"""The papers' architectures, trainable and compilable: our own implementations.

    model = snncc_torch.zoo.spikingformer("8-512", cml=True)

Each builder takes the published name and, as keywords, ``num_classes``, ``img_size``, ``in_channels``,
``T`` (or ``D``) and free dimensions for reduced sizes. Every parameter is used by the forward pass.
``reduced(name)`` gives one small instance per entry of ``REDUCED``.
"""

from __future__ import annotations

from snncc_torch.zoo.calibrate import calibrate_batchnorm
from snncc_torch.zoo.dense import boxes, classes_of_pixels, e_spikeformer_detector, e_spikeformer_segmenter
from snncc_torch.zoo.efficient import e_spikeformer
from snncc_torch.zoo.masked import e_spikeformer_masked
from snncc_torch.zoo.metaformers import meta_spikeformer
from snncc_torch.zoo.ms import ms_resnet
from snncc_torch.zoo.sdt import spike_driven_transformer
from snncc_torch.zoo.sew import sew_resnet
from snncc_torch.zoo.small import REDUCED, reduced
from snncc_torch.zoo.spikformers import spikformer
from snncc_torch.zoo.spikingformers import spikingformer

__all__ = [
    "REDUCED",
    "boxes",
    "calibrate_batchnorm",
    "classes_of_pixels",
    "e_spikeformer",
    "e_spikeformer_detector",
    "e_spikeformer_masked",
    "e_spikeformer_segmenter",
    "meta_spikeformer",
    "ms_resnet",
    "reduced",
    "sew_resnet",
    "spike_driven_transformer",
    "spikformer",
    "spikingformer",
]

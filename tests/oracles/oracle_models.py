"""Models of spikingjelly's zoo and nets of its and sinabs' layers, at reduced size.

Every entry builds its module and an example input. The classes are the libraries' own; only widths,
depths and image sizes are smaller, and batch norms have seen data, so that the neurons fire.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import sinabs
import sinabs.activation as sa
import sinabs.layers as sl
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import (
    masnn,
    maxformer,
    ms_resnet,
    parametric_lif_net,
    qkformer,
    sew_resnet,
    spike_driven_transformer,
    spikformer,
    spiking_resnet,
    spiking_vgg,
    spiking_vggws_ottt,
)
from torch import Tensor, nn

SJ, SINABS = "spikingjelly", "sinabs"


@dataclass(frozen=True)
class Entry:
    """One model: its library, what it is, and how it is built with its example input."""

    library: str
    name: str
    build: Callable[[], tuple[nn.Module, Tensor]]

    def timesteps(self, module: nn.Module, example: Tensor) -> int | None:
        """T of a model that repeats a static image itself."""
        own = getattr(module, "T", None)
        return own if example.dim() == 4 and self.library == SJ else None


def calibrated(module: nn.Module, example: Tensor) -> nn.Module:
    """Batch norms take their statistics from random data like the example."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    module.train()
    wide = torch.randn(*example.shape[:1], 4, *example.shape[2:]) if example.dim() > 4 else None
    batch = torch.randn(4, *example.shape[1:]) if wide is None else wide
    with torch.no_grad():
        module(batch)
    functional.reset_net(module)
    return module.eval()


class Averaged(nn.Module):
    """A multi-step model and the mean over time that its training script takes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...] to [B, classes]."""
        return self.net(x).mean(0)


def multi(
    make: Callable[[], nn.Module], *shape: int, steps: int = 2
) -> Callable[[], tuple[nn.Module, Tensor]]:
    """A model of spikingjelly in multi-step mode, on [T, B, ...], averaged over time."""

    def build() -> tuple[nn.Module, Tensor]:
        module = Averaged(make())
        functional.set_step_mode(module, "m")
        example = torch.zeros(steps, 1, *shape)
        return calibrated(module, example), example

    return build


def own_steps(make: Callable[[], nn.Module], *shape: int) -> Callable[[], tuple[nn.Module, Tensor]]:
    """A model that repeats a static image over its own T."""

    def build() -> tuple[nn.Module, Tensor]:
        example = torch.zeros(1, *shape)
        return calibrated(make(), example), example

    return build


ATAN = {"surrogate_function": surrogate.ATan()}
LIF = {"spiking_neuron": neuron.LIFNode, **ATAN}
IF = {"spiking_neuron": neuron.IFNode, **ATAN}


def small_vgg() -> nn.Module:
    """SpikingVGG, whose published classifier alone has 120 M parameters."""
    net = spiking_vgg.SpikingVGG(
        [16, "M", 32, "M", 512], batch_norm=True, norm_layer=layer.BatchNorm2d, num_classes=10,
        init_weights=False, **LIF,
    )  # fmt: skip
    net.classifier[0], net.classifier[3] = layer.Linear(512 * 49, 64), layer.Linear(64, 64)
    net.classifier[6] = layer.Linear(64, 10)
    return net


def small_cnn(make: Callable[[], nn.Module]) -> nn.Module:
    """Conv, BN, neuron, average pool, flatten, dropout, linear, neuron, all of spikingjelly.layer."""
    return nn.Sequential(
        layer.Conv2d(2, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), make(), layer.AvgPool2d(2),
        layer.Flatten(), layer.Dropout(0.3), layer.Linear(128, 10), make(),
    )  # fmt: skip


def klif() -> nn.Module:
    """A KLIF neuron with a learned k."""
    made = neuron.KLIFNode(tau=1.7, scale_reset=True, v_reset=None)
    made.k.data.fill_(1.3)
    return made


def in_groups(make: Callable[[], nn.Module]) -> nn.Module:
    """``small_cnn`` with the stateless layers in SeqToANNContainer."""
    return nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)), make(),
        layer.SeqToANNContainer(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)), make(),
    )  # fmt: skip


class Single(nn.Module):
    """Single-step neurons in a Python loop over time, as spikingjelly's tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(layer.Flatten(), layer.Linear(32, 10), neuron.IFNode())

    def forward(self, x: Tensor) -> Tensor:
        """Mean of the spikes of two timesteps."""
        return (self.net(x) + self.net(x)) / 2


# ---- sinabs -----------------------------------------------------------------------------------


def squeezed(
    make: Callable[[], nn.Module], *shape: int, steps: int = 4
) -> Callable[[], tuple[nn.Module, Tensor]]:
    """A sinabs model on [T, ...], one sample."""
    return lambda: (make().eval(), torch.zeros(steps, *shape))


def sinabs_cnn(
    make: Callable[[], nn.Module], pool: Callable[[], nn.Module] = lambda: nn.AvgPool2d(2)
) -> nn.Module:
    """The CNN of sinabs' tutorials: convolutions without bias and squeezed neurons."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False), make(), pool(), nn.Conv2d(8, 8, 3, padding=1, bias=False),
        make(), pool(), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(32, 10, bias=False), make(),
    )  # fmt: skip


def converted() -> nn.Module:
    """An analog CNN that sinabs.from_torch.from_model converts."""
    analog = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 16), nn.ReLU(),
        nn.Linear(16, 10),
    )  # fmt: skip
    return sinabs.from_torch.from_model(analog, input_shape=(2, 8, 8), batch_size=1, add_spiking_output=True)


def batch_first(make: Callable[[], nn.Module]) -> Callable[[], tuple[nn.Module, Tensor]]:
    """A sinabs MLP on [B, T, features]."""
    net = lambda: nn.Sequential(nn.Linear(12, 20), make(), nn.Linear(20, 5), make())  # noqa: E731
    return lambda: (net().eval(), torch.zeros(1, 4, 12))


def unsqueezed() -> nn.Module:
    """Layers between FlattenTime and UnflattenTime, neurons on [B, T, ...]."""
    return nn.Sequential(
        sl.FlattenTime(), nn.Conv2d(2, 8, 3, padding=1), sl.UnflattenTime(batch_size=1),
        sl.LIF(tau_mem=8.0, spike_threshold=torch.tensor(0.1)),
        sl.Repeat(nn.Conv2d(8, 4, 3)), sl.IAF(spike_threshold=torch.tensor(0.5)),
    )  # fmt: skip


def five_axes(make: Callable[[], nn.Module]) -> Callable[[], tuple[nn.Module, Tensor]]:
    """A sinabs model on [B, T, C, H, W]."""
    return lambda: (make().eval(), torch.zeros(1, 4, 2, 8, 8))


def _sj(name: str, build: Callable[[], tuple[nn.Module, Tensor]]) -> Entry:
    return Entry(SJ, name, build)


def _sinabs(name: str, build: Callable[[], tuple[nn.Module, Tensor]]) -> Entry:
    return Entry(SINABS, name, build)


def _resnet(block: type, **kwargs: object) -> nn.Module:
    return spiking_resnet.SpikingResNet(block, [1, 1, 1, 1], num_classes=10, **kwargs)


def _sew(block: type, function: str) -> nn.Module:
    return sew_resnet.SEWResNet(block, [1, 1, 1, 1], num_classes=10, cnf=function, **IF)


MODELS: tuple[Entry, ...] = (
    _sj("spiking_resnet, basic blocks", multi(lambda: _resnet(spiking_resnet.BasicBlock, **LIF), 3, 32, 32)),
    _sj("spiking_resnet, bottlenecks", multi(lambda: _resnet(spiking_resnet.Bottleneck, **IF), 3, 32, 32)),
    *(
        _sj(f"sew_resnet, {f}", multi(lambda f=f: _sew(sew_resnet.BasicBlock, f), 3, 32, 32))
        for f in ("ADD", "AND", "IAND")
    ),
    _sj("sew_resnet, ADD, bottlenecks", multi(lambda: _sew(sew_resnet.Bottleneck, "ADD"), 3, 32, 32)),
    _sj("spiking_vgg with batch norm", multi(small_vgg, 3, 28, 28)),
    _sj(
        "parametric_lif_net.MNISTNet",
        multi(lambda: parametric_lif_net.MNISTNet(8, neuron.ParametricLIFNode, init_tau=2.0), 1, 28, 28),
    ),
    _sj(
        "parametric_lif_net.CIFAR10Net",
        multi(lambda: parametric_lif_net.CIFAR10Net(8, neuron.ParametricLIFNode, v_reset=None), 3, 32, 32),
    ),
    _sj(
        "parametric_lif_net.DVSGestureNet",
        multi(lambda: parametric_lif_net.DVSGestureNet(4, neuron.LIFNode), 2, 128, 128),
    ),
    _sj(
        "ms_resnet",
        own_steps(
            lambda: ms_resnet.MSResNet(T=2, num_classes=10, layers=(1, 1, 1), base_channels=8, stage_channels=(8, 16, 16)),
            3, 32, 32,
        ),
    ),
    _sj(
        "ms_resnet.MaxResNet",
        own_steps(
            lambda: ms_resnet.MaxResNet(T=2, num_classes=10, layers=(1, 1, 1), base_channels=8, stage_channels=(8, 16, 16)),
            3, 32, 32,
        ),
    ),
    _sj(
        "spikformer",
        own_steps(
            lambda: spikformer.Spikformer(
                T=2, img_size_h=32, img_size_w=32, patch_size=4, num_classes=10, embed_dims=64, num_heads=4, depths=1
            ),
            3, 32, 32,
        ),
    ),
    _sj(
        "spike_driven_transformer",
        own_steps(
            lambda: spike_driven_transformer.SpikeDrivenTransformer(
                T=2, num_classes=10, embed_dims=64, num_heads=4, depths=1
            ),
            3, 64, 64,
        ),
    ),
    _sj(
        "qkformer",
        own_steps(
            lambda: qkformer.QKFormer(
                T=2, num_classes=10, embed_dims=64, num_heads=(2, 2, 2), depths=(1, 1, 1)
            ),
            3, 64, 64,
        ),
    ),
    _sj(
        "maxformer",
        own_steps(
            lambda: maxformer.MaxFormer(T=2, num_classes=10, embed_dims=64, depths=(1, 1, 1), cifar=True), 3, 32, 32
        ),
    ),
    _sj("masnn (temporal attention)", multi(
        lambda: masnn.MASNN(T=5, input_size=(16, 16), channels=(8, 8, 8), fc_hidden=16, reduction_c=2), 2, 16, 16, steps=5
    )),
    _sj(
        "spiking_vggws_ottt",
        own_steps(lambda: spiking_vggws_ottt.OTTTSpikingVGG(
            [8, "M", 512], num_classes=10, spiking_neuron=neuron.OTTTLIFNode, surrogate_function=surrogate.ATan()
        ), 3, 8, 8),
    ),
    _sj("CNN of layers, LIF hard reset", multi(lambda: small_cnn(lambda: neuron.LIFNode(tau=1.7, v_reset=-0.3)), 2, 8, 8)),
    _sj("CNN of layers, KLIF", multi(lambda: small_cnn(klif), 2, 8, 8)),
    _sj("CNN of layers, ILIF", multi(lambda: small_cnn(neuron.ILIFNode), 2, 8, 8)),
    _sj("CNN of layers, CUBALIF", multi(lambda: small_cnn(neuron.CUBALIFNode), 2, 8, 8)),
    _sj("SeqToANNContainer, IF", multi(lambda: in_groups(lambda: neuron.IFNode(v_reset=None)), 2, 8, 8)),
    _sj("CNN of layers, QIF", multi(lambda: small_cnn(neuron.QIFNode), 2, 8, 8)),
    _sj("CNN of layers, PSN", multi(lambda: small_cnn(lambda: neuron.PSN(T=2)), 2, 8, 8)),
    _sj("CNN of layers, ternary", multi(lambda: small_cnn(neuron.TernaryLIFNode), 2, 8, 8)),
    _sj("single steps in a Python loop", own_steps(Single, 2, 4, 4)),
    _sinabs("CNN, IAFSqueeze", squeezed(lambda: sinabs_cnn(lambda: sl.IAFSqueeze(batch_size=1, min_v_mem=-1.0)), 2, 8, 8)),
    _sinabs(
        "CNN, IAFSqueeze of a batch of 4",
        squeezed(lambda: sinabs_cnn(lambda: sl.IAFSqueeze(batch_size=4, spike_threshold=torch.tensor(0.5))), 2, 8, 8),
    ),
    _sinabs(
        "CNN, LIFSqueeze, one spike a step",
        squeezed(lambda: sinabs_cnn(lambda: sl.LIFSqueeze(
            tau_mem=8.0, norm_input=False, num_timesteps=4, spike_fn=sa.SingleSpike, spike_threshold=torch.tensor(0.2)
        )), 2, 8, 8),
    ),
    _sinabs(
        "CNN, IAFSqueeze, MaxSpike, reset to zero",
        squeezed(lambda: sinabs_cnn(lambda: sl.IAFSqueeze(
            batch_size=1, spike_fn=sa.MaxSpike(4), reset_fn=sa.MembraneReset(), spike_threshold=torch.tensor(0.3)
        )), 2, 8, 8),
    ),
    _sinabs("CNN, SumPool2d", squeezed(
        lambda: sinabs_cnn(lambda: sl.IAFSqueeze(batch_size=1), lambda: sl.SumPool2d(2)), 2, 8, 8
    )),
    _sinabs("from_model conversion", squeezed(converted, 2, 8, 8)),
    _sinabs("MLP on [B, T, C], LIF with tau_syn", batch_first(lambda: sl.LIF(
        tau_mem=8.0, tau_syn=4.0, norm_input=False, spike_threshold=torch.tensor(0.3)
    ))),
    _sinabs("FlattenTime, UnflattenTime, Repeat", five_axes(unsqueezed)),
    _sinabs("ExpLeakSqueeze readout", squeezed(lambda: nn.Sequential(
        nn.Linear(12, 20), sl.IAFSqueeze(batch_size=1), nn.Linear(20, 5), sl.ExpLeakSqueeze(batch_size=1, tau_mem=6.0)
    ), 12)),
    _sinabs("MLP, ALIF", batch_first(lambda: sl.ALIF(tau_mem=8.0, tau_adapt=8.0))),
    _sinabs("MLP, recurrent LIF", squeezed(lambda: nn.Sequential(
        nn.Linear(12, 20), sl.LIFRecurrent(tau_mem=8.0, rec_connect=nn.Linear(20, 20))
    ), 4, 12)),
    _sinabs("CNN, SpikingMaxPooling2dLayer", squeezed(lambda: sinabs_cnn(
        lambda: sl.IAFSqueeze(batch_size=1), lambda: sl.SpikingMaxPooling2dLayer(2)
    ), 2, 8, 8)),
)  # fmt: skip


def fresh(entry: Entry) -> tuple[nn.Module, Tensor]:
    """The model as a user has it: built, and run once, so that neurons hold state."""
    module, example = entry.build()
    with torch.no_grad():
        module(torch.rand_like(example))
    return module, copy.deepcopy(example)

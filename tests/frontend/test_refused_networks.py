"""Networks that a chip or a pass refuses: the whole message, and that its way out is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snncc
from captured_zoo import captured
from snncc.artifact import Artifact
from snncc.data import Dataset
from snncc.errors import SnnccError
from snncc_torch import capture
from snncc_torch.nn import SFA
from zoo_on_chips import inputs

SHAPE = (2, 5, 4)


class Two(nn.Module):
    """Two layers of neurons in a row and what a subclass makes of both."""

    def __init__(self, d: int = 2, normalize: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.c0, self.c1, self.c2 = (nn.Conv2d(n, 3, 3, padding=1) for n in (2, 3, 3))
        self.f0, self.f1, self.f2, self.f3 = (SFA(d, normalize) for _ in range(4))
        self.head = nn.Linear(60, 4)
        for conv in (self.c0, self.c1):
            conv.bias.data.fill_(0.5)  # type: ignore[union-attr]

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        a = self.f0(self.c0(x))
        return self.head(self.both(a, self.f1(self.c1(a))).flatten(1))  # type: ignore[no-any-return]


class Product(Two):
    """a·b of counts."""

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        return self.f2(a * b)  # type: ignore[no-any-return]


class Inverted(Two):
    """a·(1 - b), the IAND of SEW-ResNet."""

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        return a * (1 - b)


class Mixed(Two):
    """Sums of weights added to a matrix product."""

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        return self.f2(a.flatten(2) @ b.flatten(2).transpose(1, 2) @ a.flatten(2) + self.c2(a).flatten(2))  # type: ignore[no-any-return]


class Apart(Two):
    """The same with a neuron behind the product."""

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        product = a.flatten(2) @ b.flatten(2).transpose(1, 2) @ a.flatten(2)
        return self.f2(self.f3(product).unflatten(2, SHAPE[1:]) + self.f2(self.c2(a)))  # type: ignore[no-any-return]


def made(net: nn.Module, folder: Path, target: str = "sim", partition: str = "auto") -> Artifact:
    """Compiled, and verified on inputs that calibration had not seen."""
    x = torch.rand(8, 1, *SHAPE, generator=torch.Generator().manual_seed(1)).numpy()
    model = capture(net.eval(), torch.zeros(1, *SHAPE))
    out = folder / f"{target}-{partition}"
    artifact = snncc.compile(model, target=target, out=out, calib=Dataset(x[:6]), partition=partition)
    found = snncc.verify(artifact, Dataset(x[4:]))
    assert found.equivalent, str(found)
    assert all(layer.mismatches == 0 and layer.compared > 0 for layer in found.layers)
    return artifact


def refused(net: nn.Module, folder: Path, target: str = "sim", partition: str = "auto") -> str:
    with pytest.raises(SnnccError) as error:
        made(net, folder, target, partition)
    return str(error.value)


def test_a_product_on_a_chip_without_products_and_without_a_host(tmp_path: Path) -> None:
    assert refused(Product(), tmp_path, "loihi2", "none") == (
        "[SNNC-C016] %mul on loihi2: the chip's cores multiply no spikes with spikes, got a product of spikes. "
        "Try --target sim, or --partition auto: the host computes it."
    )
    assert made(Product(), tmp_path, "loihi2").mapped.on_host
    assert not made(Product(), tmp_path).mapped.on_host


def test_a_whole_transformer_on_speck(tmp_path: Path) -> None:
    """What it offers, loihi2 and sim, are cells of docs/support.md that test_zoo_on_chips.py computes."""
    model, calibration = captured("spikformer-cifar")[2], inputs("spikformer-cifar", 8, 1)
    for partition in ("auto", "none"):
        with pytest.raises(SnnccError) as error:
            snncc.compile(
                model, target="speck2f", out=tmp_path / "out", calib=calibration, partition=partition
            )
        assert str(error.value) == (
            "[SNNC-C003] network StepClassifier on speck2f: every neuron layer takes a core of its own, and "
            "there are more layers than cores, got 18 neuron layers, limit 9 cores. Try --target loihi2 "
            "--partition auto (a host computes what the chip lacks), or --target sim."
        )


def test_an_iand_of_whole_counts(tmp_path: Path) -> None:
    assert refused(Inverted(), tmp_path) == (
        "[SNNC-M012] %rsub_1: no pass lowers add_const to spikes yet. Try the constant as a bias of the weights "
        "before it; in 1 - x, counts of n/D as x."
    )


@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("target", ["sim", "loihi2"])
def test_an_iand_of_counts_that_are_at_most_one(target: str, d: int, tmp_path: Path) -> None:
    artifact = made(Inverted(d, normalize=True), tmp_path, target)
    assert bool(artifact.mapped.on_host) == (target == "loihi2" and d > 1)


def test_sums_of_weights_beside_a_product(tmp_path: Path) -> None:
    assert refused(Mixed(), tmp_path) == (
        "[SNNC-M023] %f2 (f2): adds sums of weights to products of spikes, which have no common scale. "
        "Try a neuron behind the product."
    )
    made(Apart(), tmp_path)

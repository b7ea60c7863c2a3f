"""Train the example network and write model.pt.

The committed checkpoint was made by

python examples/loihi_lif/train.py --out examples/loihi_lif/model.pt
"""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path

import click
import numpy as np
import torch
from events import SIDE, T, digits, events
from torch import Tensor, nn

from snncc_torch import describe
from snncc_torch.nn import LIF, OverTime, PerStep

TAU = 4.0
CALIBRATION = 32
GAIN = 3  # of the first weights: few events come in, and with torch's own no neuron fires
REACH = 2  # fine pixels by which a scene is shifted


def lif() -> LIF:
    """A neuron that Loihi has: leak, reset to zero; the input is not divided by τ."""
    return LIF(tau=TAU, v_threshold=1.0, v_reset=0.0, decay_input=False)


def network() -> nn.Sequential:
    """Three convolutions and a classifier; its ten last neurons vote with their spikes.

    No biases: a bias would move membranes before the first event arrives, which our program can
    undo and netx's format cannot.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=PerStep(nn.Conv2d(2, 16, 3, padding=1, bias=False)),
            lif1=lif(),
            conv2=PerStep(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)),
            lif2=lif(),
            conv3=PerStep(nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)),
            lif3=lif(),
            fc=PerStep(nn.Flatten(), nn.Linear(32 * 4 * 4, 10, bias=False)),
            lif4=lif(),
            vote=OverTime(mean=False),
        )
    )


def batch_first(x: np.ndarray) -> Tensor:
    """Events [N, T, ...] as the network takes them, [T, N, ...]."""
    return torch.from_numpy(x).float().transpose(0, 1)


def accuracy(net: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """Share of correct decisions."""
    net.eval()
    with torch.no_grad():
        return float((net(batch_first(x)).argmax(1).numpy() == y).mean())


def train(net: nn.Module, images: np.ndarray, classes: np.ndarray, epochs: int, batch: int = 64) -> None:
    """Adam with one learning-rate cycle, shifted scenes, cross entropy of the votes."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-3)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    labels = torch.from_numpy(classes)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(images))[: len(images) // batch * batch]
        for indices in order.split(batch):
            dy, dx = torch.randint(-REACH, REACH + 1, (2,)).tolist()
            x = batch_first(events(images[indices.numpy()], (dy, dx)))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), labels[indices], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--epochs", default=15, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(out: Path, epochs: int, seed: int) -> None:
    """Train on 4,000 moving digits, test on 1,000, save the module with its calibration inputs."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    (images, classes), (test, test_classes) = digits()
    net = network()
    with torch.no_grad():
        for weights in net.parameters():
            weights *= GAIN
    begin = time.process_time()
    train(net, images, classes, epochs)
    found = accuracy(net, events(test), test_classes)
    spent = time.process_time() - begin
    click.echo(f"accuracy on {len(test)} held-back digits: {found:.2%}, {spent:.0f} s of CPU")
    describe(
        net,
        (2, SIDE, SIDE),
        timesteps=T,
        input_levels=1,
        calibration=events(images[:CALIBRATION]),
        labels=classes[:CALIBRATION],
    )
    torch.save(net, out)


if __name__ == "__main__":
    main()

"""Train the example network and write model.pt.

The committed checkpoint was made by

python examples/mnist_sfa/train.py --out examples/mnist_sfa/model.pt
"""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path

import click
import torch
from data import LEVELS, digits
from torch import Tensor, nn

from snncc_torch import describe
from snncc_torch.nn import SFA

D = 4
CALIBRATION = 512


def network() -> nn.Sequential:
    """Conv + BN twice with pooling, one hidden and one output layer; fits speck2f with its gates."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            sfa1=SFA(D),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(16, 32, 3, bias=False),
            bn2=nn.BatchNorm2d(32),
            sfa2=SFA(D),
            pool2=nn.AvgPool2d(4),
            flatten=nn.Flatten(),
            fc1=nn.Linear(32 * 3 * 3, 64, bias=False),
            bn3=nn.BatchNorm1d(64),
            sfa3=SFA(D),
            fc2=nn.Linear(64, 10),
        )
    )


def shifted(x: Tensor, reach: int = 2) -> Tensor:
    """Each image moved by up to ``reach`` pixels, zeros coming in."""
    padded = nn.functional.pad(x, [reach] * 4)
    moves = torch.randint(0, 2 * reach + 1, (len(x), 2)).tolist()
    return torch.stack([p[:, dy : dy + 28, dx : dx + 28] for p, (dy, dx) in zip(padded, moves, strict=True)])


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of correct decisions."""
    net.eval()
    with torch.no_grad():
        return float((net(x).argmax(1) == y).float().mean())


def train(net: nn.Module, x: Tensor, y: Tensor, epochs: int, batch: int = 64) -> None:
    """Adam with one learning-rate cycle, shifted images, cross entropy."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-3)
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(x))[: len(x) // batch * batch]
        for indices in order.split(batch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(shifted(x[indices])), y[indices], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--epochs", default=40, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(out: Path, epochs: int, seed: int) -> None:
    """Train on 4,000 digits, test on 1,000, save the whole module with its calibration inputs."""
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    (x, y), (x_test, y_test) = digits()
    inputs, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    net = network()
    begin = time.process_time()
    train(net, inputs, labels, epochs)
    found = accuracy(net, torch.from_numpy(x_test).float(), torch.from_numpy(y_test))
    click.echo(
        f"accuracy on {len(x_test)} held-back digits: {found:.2%}, {time.process_time() - begin:.0f} s of CPU"
    )
    describe(net, (1, 28, 28), input_levels=LEVELS, calibration=x[:CALIBRATION], labels=y[:CALIBRATION])
    torch.save(net, out)


if __name__ == "__main__":
    main()

"""How the zoo's networks of examples/ are trained on digits; each has a train.py that names its network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from images import SIDE, digits
from torch import Tensor, nn

from snncc_torch import describe


@dataclass(frozen=True)
class Recipe:
    """What differs from network to network.

    Attributes:
        network: makes the untrained network.
        timesteps: for which an image is shown.
        epochs: over the 4,000 digits.
        rate: largest learning rate.
        calibration: images stored in the checkpoint; each takes 4 KB a timestep.
    """

    network: Callable[[], nn.Module]
    timesteps: int
    epochs: int
    rate: float = 4e-3
    calibration: int = 24


def moved(x: Tensor, reach: int = 2) -> Tensor:
    """Each image moved by up to ``reach`` pixels, zeros coming in."""
    padded = nn.functional.pad(x, [reach] * 4)
    places = torch.randint(0, 2 * reach + 1, (len(x), 2)).tolist()
    return torch.stack(
        [p[:, dy : dy + SIDE, dx : dx + SIDE] for p, (dy, dx) in zip(padded, places, strict=True)]
    )


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of correct decisions."""
    net.eval()
    with torch.no_grad():
        hits = [net(a).argmax(1) == b for a, b in zip(x.split(100), y.split(100), strict=True)]
    return float(torch.cat(hits).float().mean())


def train(net: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, batch: int = 50) -> None:
    """AdamW with one learning-rate cycle, moved images, cross entropy with smoothed labels."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=1e-2)
    steps = recipe.epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    net.train()
    for _ in range(recipe.epochs):
        for indices in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(moved(x[indices])), y[indices], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()


def command(recipe: Recipe) -> click.Command:
    """The train.py of a recipe."""

    @click.command()
    @click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
    @click.option("--epochs", default=recipe.epochs, show_default=True)
    @click.option("--seed", default=0, show_default=True)
    def main(out: Path, epochs: int, seed: int) -> None:
        """Train on 4,000 digits, test on 1,000, save the whole module with its calibration inputs."""
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        (x, y), (x_test, y_test) = digits()
        net = recipe.network()
        net.to(memory_format=torch.channels_last)  # trains in half the time here
        size = sum(p.numel() for p in net.parameters())
        begin = time.process_time()
        used = Recipe(recipe.network, recipe.timesteps, epochs, recipe.rate, recipe.calibration)
        train(net, torch.from_numpy(x), torch.from_numpy(y), used)
        spent = time.process_time() - begin
        found = accuracy(net, torch.from_numpy(x_test), torch.from_numpy(y_test))
        click.echo(f"{size:,} parameters, {found:.2%} of 1,000 held-back digits, {spent:.0f} s of CPU")
        net.to(memory_format=torch.contiguous_format)
        few = recipe.calibration
        describe(net, (1, SIDE, SIDE), recipe.timesteps, calibration=x[:few], labels=y[:few])
        torch.save(net, out)

    return main

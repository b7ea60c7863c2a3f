"""The verdict in plain words. Without a promise no word claims more than was measured."""

from __future__ import annotations

from dataclasses import dataclass

from snncc.equivalence.result import Divergence, Verification
from snncc.errors import Problem, problem
from snncc.reporting.numbers import count, percent, plural, ratio


@dataclass(frozen=True)
class Verdict:
    """What a verification comes to.

    Attributes:
        good: whether the claim of the schedule holds.
        headline: one sentence.
        details: what it rests on, one sentence each.
    """

    good: bool
    headline: str
    details: tuple[str, ...]


def verdict(result: Verification, origin: str) -> Verdict:
    """The verdict on data of ``origin``; empty for data that nobody named."""
    return Verdict(result.equivalent, _headline(result), tuple(_details(result, origin)))


def _headline(result: Verification) -> str:
    samples = plural(result.samples, "sample")
    compared = sum(layer.compared for layer in result.layers)
    wrong = sum(layer.mismatches for layer in result.layers)
    if result.equivalent:
        layers = plural(len(result.layers), "layer")
        return f"Equivalent on {samples}: all {count(compared)} compared values of all {layers} agree."
    if wrong or not result.promises:
        differ = f"{count(wrong)} of {count(compared)} compared values differ ({ratio(wrong, compared)})"
        return f"Not equivalent: {differ} on {samples}."
    layers = plural(len(result.excursions), "layer")
    return f"Not equivalent: samples left the calibrated range in {layers}, though no compared value differs."


def _details(result: Verification, origin: str) -> list[str]:
    details = [f"Compared: {result.pair[0]} with {result.pair[1]}."]
    details += [f"Data: {origin}."] if origin else []
    if result.not_compared:
        names = ", ".join(f"%{name}" for name in result.not_compared)
        details.append(f"Not compared: the host's part {names}; it is computed once and feeds both sides.")
    if is_calibration(origin):
        details.append(
            "These inputs chose the weight scales and ranges, so they say nothing about unseen data; "
            "give --data with held-back inputs."
        )
    if not result.promises:
        details.append(
            f"The {result.schedule} schedule promises no agreement with the trained integers; "
            "mismatch and accuracy are measured."
        )
        if result.shuffled is not None:
            again = f"once more shuffled with seed {result.shuffled.seed}"
            details.append(f"Input events were played in the order {result.order}, and {again}.")
    elif result.proven:
        details.append("The certificate holds for every input that the types allow.")
    else:
        left = sum(x.samples for x in result.excursions)
        checked = (
            f"checked on every sample here, {plural(left, 'time')} left"
            if left
            else "checked on every sample here and never left"
        )
        details.append(f"The certificate is conditional on the calibrated ranges, which were {checked}.")
    details.append(f"Spikes and integers decide alike in {percent(result.agreement)} of the samples.")
    if result.first_divergence is not None:
        details.append(_divergence(result.first_divergence))
    return details


def is_calibration(origin: str) -> bool:
    """Whether data of this origin are the artifact's own calibration inputs."""
    return origin == "the artifact's calibration inputs"


def _divergence(at: Divergence) -> str:
    where = f"layer {at.layer}, sample {at.sample}, timestep {at.timestep}, neuron {list(at.neuron)}"
    return f"First divergence: {where}: integer {count(at.integer)}, spikes {count(at.spikes)}."


def verification_problems(result: Verification, where: str) -> list[Problem]:
    """The problems for which ``verify`` exits with 4; none if the artifact is equivalent."""
    found = []
    compared = sum(layer.compared for layer in result.layers)
    wrong = sum(layer.mismatches for layer in result.layers)
    if wrong or not result.promises:
        hint = (
            f"compiling without `--schedule {result.schedule}`"
            if not result.promises
            else "`snncc verify --json` for the first divergence, and report it"
        )
        got = f"{count(wrong)} of {count(compared)} values different"
        found.append(
            problem(
                "SNNC-Q001",
                where,
                f"not equivalent under the schedule `{result.schedule}`",
                got=got,
                hint=hint,
            )
        )
    for x in result.excursions:
        what = "samples left the range for which the schedule was made"
        hint = "compiling with calibration inputs that cover the data"
        found.append(
            problem(
                "SNNC-Q002",
                f"{where}: {x.layer}",
                what,
                got=f"{count(x.samples)}, the first is {x.first_sample}",
                hint=hint,
            )
        )
    return found

"""The verdict in plain words. Without a promise no word claims more than was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from snncc.equivalence.result import Divergence, Verification
from snncc.errors import Problem, problem
from snncc.reporting.numbers import count, percent, plural, ratio

UNCHECKED = "SNNC-Q005"


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
    if any(p.code != UNCHECKED for p in result.disagreements):
        return "Not equivalent: parts of the artifact disagree, so that nothing is certified."
    if result.disagreements and not wrong:
        return "Not certified: the chip files could not be checked."
    if result.equivalent:
        layers = plural(len(result.layers), "layer")
        return f"Equivalent on {samples}: all {count(compared)} compared values of all {layers} agree."
    if wrong or not result.promises:
        differ = f"{count(wrong)} of {count(compared)} compared values differ ({ratio(wrong, compared)})"
        return f"Not equivalent: {differ} on {samples}."
    decoded = result.results
    if decoded.mismatches:
        differ = f"{count(decoded.mismatches)} of {count(decoded.compared)} values of the result"
        return f"Not equivalent: {differ} differ on {samples}, though no spike count does."
    layers = plural(len(result.excursions), "layer")
    return f"Not equivalent: samples left the calibrated range in {layers}, though no compared value differs."


def _details(result: Verification, origin: str) -> list[str]:
    details = [f"Compared: {result.pair[0]} with {result.pair[1]}."]
    details += [f"Data: {origin}."] if origin else []
    details += [str(problem) for problem in result.disagreements]
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
    elif not result.disagreements:
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
    return [*_value_problems(result, where), *_excursion_problems(result, where), *result.disagreements]


def _value_problems(result: Verification, where: str) -> Iterator[Problem]:
    compared = sum(layer.compared for layer in result.layers)
    wrong = sum(layer.mismatches for layer in result.layers)
    if not wrong and result.results.mismatches:
        compared, wrong = result.results.compared, result.results.mismatches
    if not wrong and result.promises:
        return
    hint = (
        f"compiling without `--schedule {result.schedule}`"
        if not result.promises
        else "`snncc verify --json` for the first divergence, and report it"
    )
    what = f"not equivalent under the schedule `{result.schedule}`"
    got = f"{count(wrong)} of {count(compared)} values different"
    yield problem("SNNC-Q001", where, what, got=got, hint=hint)


def _excursion_problems(result: Verification, where: str) -> Iterator[Problem]:
    for x in result.excursions:
        what = "samples left the range for which the schedule was made"
        hint = "compiling with calibration inputs that cover the data"
        got = f"{count(x.samples)}, the first is {x.first_sample}"
        yield problem("SNNC-Q002", f"{where}: {x.layer}", what, got=got, hint=hint)

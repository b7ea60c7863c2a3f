"""The HTML page: what it says, that it is self-contained, and that names in the model stay names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from cli import clinets
from snncc import api, display
from snncc.artifact import Artifact
from snncc.data import Dataset
from snncc.metrics.conventions import Conventions
from snncc.metrics.energy import energy_of, with_trained
from snncc.metrics.measure import measure
from snncc.reporting import notebook
from snncc.reporting.html import render, write_report
from snncc.results import Simulation
from snncc.session import utilisation
from snncc_sim import SIMULATOR

Run = Callable[..., Result]

# Names that break out of a text node, an attribute, a title, a style or a comment; and what a terminal obeys.
XSS = (
    clinets.EVIL,
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "--><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "</title></style></text><iframe src=javascript:alert(1)>",
    "&lt;script&gt;",
    "a\u202eb\u2028c\x00\x9b31m",
    "]]><!ENTITY x SYSTEM 'file:///etc/passwd'>",
    "x" * 5000,
)


class _Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "rect", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def assert_harmless(page: _Page) -> None:
    """No script, nothing loaded, no handler: whatever the names in it."""
    assert not {"script", "img", "iframe", "object", "embed", "link", "form", "base", "a:href"} & set(
        page.tags
    )
    for name, value in page.attributes:
        assert not name.startswith("on"), name
        if name in ("href", "src", "action", "xlink:href"):
            assert value.startswith("#"), value
    assert not page.open


@pytest.fixture(scope="module")
def results(folder: Path) -> Callable[[str], tuple[Any, Any]]:
    """Simulation and verification of an artifact on the data file."""

    def of(schedule: str) -> tuple[Any, Any]:
        args = (folder / schedule, folder / "x.npz")
        return api.simulate(*args), api.verify(*args)

    return of


def test_page_of_the_exact_schedule(results: Any) -> None:
    simulation, verification = results("exact")
    source = render(simulation, verification, "x.npz")
    page = _Page(source)
    assert_harmless(page)
    for words in (
        "net on speck2f",
        "Equivalent on 6 samples: all 1,182 compared values of all 2 layers agree.",
        "Compared: snncc.ir.interp on integer.snn with sim (gated) on mapped.json.",
        "Data: x.npz.",
        "What is not modelled",
        "Where every number comes from",
        "energy, speck2f",
        simulation.artifact.manifest.files["mapped.json"],
        "written by snncc 0.1.0 from clinets",
        "result: spike counts",
    ):
        assert words in page.text, words
    for line in simulation.cost.not_modelled:
        assert " ".join(line.split()) in page.text
    for energy in simulation.cost.energy:
        for constant in energy.constants:
            assert " ".join(constant.source.split()) in page.text
    assert "Calibration inputs only" not in page.text


def test_page_carries_its_policy(results: Any) -> None:
    source = render(*results("exact"), "x.npz")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert source.startswith("<!DOCTYPE html>\n<html")
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in source
    assert "url(" not in source
    assert "@import" not in source
    assert "://" not in source


def test_page_of_the_free_schedule_claims_nothing(results: Any) -> None:
    simulation, verification = results("free")
    page = _Page(render(simulation, verification, "x.npz"))
    assert_harmless(page)
    wrong = sum(layer.mismatches for layer in verification.layers)
    assert f"Not equivalent: {wrong:,} of 1,182 compared values differ" in page.text
    assert "shuffled (seed 1)" in page.text
    claims = re.compile(r"\bequal|\bidentical|\bperfect|(?<!Not )\bequivalent|\bexact\b", re.IGNORECASE)
    assert claims.findall(page.text.replace(simulation.artifact.certificate.claim, "")) == []


def test_page_says_when_only_calibration_inputs_ran(folder: Path, tmp_path: Path, run: Run) -> None:
    html = tmp_path / "r.html"
    result = run("report", folder / "exact", "--html", html)
    assert (result.exit_code, result.stdout) == (0, f"wrote {html}\n")
    assert (
        result.stderr
        == "note: only the artifact's calibration inputs were run; --data x.npz runs held-back ones\n"
    )
    text = _Page(html.read_text()).text
    assert "Data: the artifact's calibration inputs." in text
    assert "Calibration inputs only" in text


# ---- names are data ---------------------------------------------------------------------------------


def _renamed(folder: Path, name: str) -> tuple[Any, Any]:
    """Results in which everything that a model's author names bears ``name``."""
    artifact, data = api.open_artifact(folder / "exact"), folder / "x.npz"
    verification = api.verify(artifact, data)
    first = verification.layers[0].model_copy(update={"name": name, "layer": name})
    pieces = list(artifact.mapped.pieces)
    connection = pieces[1].connections[0].model_copy(update={"source": name})
    pieces[0] = pieces[0].model_copy(update={"name": name, "layer": name})
    pieces[1] = pieces[1].model_copy(update={"layer": name, "connections": (connection,)})
    tiles = (artifact.mapped.tiles[0].model_copy(update={"piece": name}), *artifact.mapped.tiles[1:])
    evil = replace(
        artifact,
        mapped=artifact.mapped.model_copy(update={"pieces": tuple(pieces), "tiles": tiles}),
        manifest=artifact.manifest.model_copy(update={"model": name, "notes": (name,)}),
        certificate=artifact.certificate.model_copy(update={"claim": name, "notes": (name,)}),
        float_graph=replace(artifact.float_graph, name=name),
    )
    renamed = verification.model_copy(update={"layers": (first, *verification.layers[1:])})
    return _simulated(evil), renamed


def _simulated(artifact: Artifact) -> Simulation:
    """What an artifact does and costs, even one that contradicts itself."""
    counts = artifact.spike_inputs(artifact.calibration.x, {})
    activity = SIMULATOR.execute(artifact.mapped, artifact.tensors, counts)
    cost = SIMULATOR.estimate(artifact.mapped, activity, artifact.chip, 0, artifact.tensors)
    trained = energy_of(measure(artifact.float_graph, artifact.calibration), Conventions())
    use = utilisation(artifact)
    return Simulation(artifact, activity, with_trained(cost, trained), artifact.chip, use, trained)


@pytest.mark.parametrize("name", XSS, ids=range(len(XSS)))
def test_names_cannot_leave_their_place(name: str, folder: Path) -> None:
    good, evil = (_Page(render(*_renamed(folder, n), n)) for n in ("plain", name))
    assert_harmless(evil)
    # The structure does not depend on names; a shortened one shows whole in a title.
    evil_tags, good_tags = ([t for t in page.tags if t != "title"] for page in (evil, good))
    assert evil_tags == good_tags
    assert all(c.isprintable() for c in evil.text)


def test_a_name_from_the_brief(folder: Path) -> None:
    source = render(*_renamed(folder, clinets.EVIL), "x.npz")
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;\\x1b[31m" in source
    assert "</script>" not in source
    assert "<img" not in source


# ---- the file ---------------------------------------------------------------------------------------


def test_an_existing_file_stays(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = tmp_path / "r.html"
    html.write_text("mine")

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("must refuse before the work")

    monkeypatch.setattr(api, "report", never)
    result = run("report", folder / "exact", "--html", html)
    assert (result.exit_code, html.read_text()) == (2, "mine")
    assert result.stderr == f"error[SNNC-U002] {html}: exists already. Try another path, or --force.\n"
    link = tmp_path / "link.html"
    link.symlink_to(html)
    result = run("report", folder / "exact", "--html", link, "--force")
    assert result.stderr == f"error[SNNC-U002] {link}: exists already. Try another path.\n"


def test_force_replaces_the_file(folder: Path, tmp_path: Path, run: Run) -> None:
    html = tmp_path / "r.html"
    html.write_text("old")
    args = ("report", folder / "exact", "--html", html, "--data", folder / "x.npz", "--force")
    assert run(*args).exit_code == 0
    assert "net" in html.read_text()
    assert os.listdir(tmp_path) == ["r.html"]


def test_a_folder_that_is_not_there(folder: Path, tmp_path: Path, run: Run) -> None:
    html = tmp_path / "no" / "r.html"
    result = run("report", folder / "exact", "--html", html)
    assert result.exit_code == 2
    assert result.stderr == (f"error[SNNC-U003] {html}: its folder cannot be written, got no such folder.\n")


def test_the_function_refuses_too(tmp_path: Path, results: Any) -> None:
    simulation, verification = results("exact")
    html = tmp_path / "r.html"
    assert write_report(html, simulation, verification, "x.npz") == html
    before = html.read_bytes()
    with pytest.raises(Exception, match="SNNC-U002"):
        write_report(html, simulation, verification, "x.npz")
    assert html.read_bytes() == before
    with pytest.raises(Exception, match="SNNC-U003"):
        write_report(tmp_path / "no" / "r.html", simulation, verification, "x.npz")


# ---- notebooks --------------------------------------------------------------------------------------


def test_results_show_themselves_in_notebooks(folder: Path, results: Any) -> None:
    simulation, verification = results("exact")
    fits = api.check(clinets.model(module=clinets.EVIL), target="speck2f")
    fails = api.check(clinets.model(channels=1100), target="speck2f")
    pages = {
        "Equivalent on 6 samples": notebook.verification_html(verification),
        "Energy a sample, model speck2f": notebook.simulation_html(simulation),
        "fits speck2f": notebook.check_html(fits),
        "[SNNC-C001]": notebook.check_html(fails),
    }
    for words, source in pages.items():
        page = _Page(source)
        assert_harmless(page)
        assert words in page.text
    assert "<img" not in pages["fits speck2f"]
    assert [r._repr_html_() for r in (verification, simulation, fits, fails)] == list(pages.values())


def test_what_has_no_page_prints_its_text() -> None:
    assert display.html(3) is None


def test_a_network_with_a_skip_is_drawn(tmp_path: Path) -> None:
    import numpy as np

    from snncc.ir import Add, Conv2d, Decode, Family, Graph, Input, Neuron, Output
    from snncc.model import Model
    from snncc.plugins import find_target
    from snncc.reporting.svg import floor_svg, network_svg

    base = clinets.graph().by_name
    conv = base["c"]
    assert isinstance(conv, Conv2d)
    weight = replace(conv, weight=clinets.weights(np.random.default_rng(1), 1, 1, 3, 3))
    nodes = (
        Input(name="x", shape=clinets.SHAPE, levels=4),
        replace(weight, name="c1", inputs=("x",)),
        Neuron(name="n1", inputs=("c1",), max_spikes=4),
        replace(weight, name="c2", inputs=("n1",)),
        Neuron(name="n2", inputs=("c2",), max_spikes=4),
        Add(name="a", inputs=("n1", "n2")),
        replace(weight, name="c3", inputs=("a",)),
        Neuron(name="n3", inputs=("c3",), max_spikes=4),
        Output(name="o", inputs=("n3",), decode=Decode.COUNT),
    )
    x, y = clinets.inputs(8)
    model = Model(Graph("skip", Family.FLOAT, nodes), x[:, None], y)
    data = Dataset(x[:, None].astype("int64"), y, "x")
    artifact = api.compile(model, target="sim", out=tmp_path / "a", calib=data)
    chip = find_target("sim").chip
    used = utilisation(artifact)
    figure = network_svg(artifact.mapped, used)
    assert figure.count('class="edge"') == 5  # input, chain of two, skip, result
    assert not floor_svg(chip, used)
    page = _Page(render(api.simulate(artifact, data), api.verify(artifact, data), "x"))
    assert_harmless(page)
    assert "Layers on sim, schedule exact: no limits of cores" in page.text

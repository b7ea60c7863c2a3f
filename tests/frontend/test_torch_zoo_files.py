"""The zoo's models as whole-module `.pt` files."""

from pathlib import Path

import pytest
import torch

import snncc_torch
from snncc.errors import SnnccError
from snncc.ir import to_text
from snncc.plugins import LoadOptions
from snncc_torch.files import ptfile
from snncc_torch.zoo import REDUCED, reduced


def saved(tmp_path, module):
    torch.save(module, tmp_path / "zoo.pt")
    return tmp_path / "zoo.pt"


def problems(path):
    with pytest.raises(SnnccError) as caught:
        ptfile.load_model(Path(path), LoadOptions(input_shape=(3, 32, 32)))
    return [(p.code, p.where, p.what) for p in caught.value.problems]


@pytest.mark.parametrize("name", sorted(REDUCED))
def test_every_model_is_read_back(tmp_path, name):
    module, x = reduced(name, calibrated=False)
    path = saved(tmp_path, module)
    read = ptfile._from_module(ptfile._checked(ptfile._members(path, "f"), "f"))
    with torch.no_grad():
        torch.testing.assert_close(read(x), module(x), rtol=0, atol=0)


def test_a_file_gives_the_graph_that_the_model_gives(tmp_path):
    module, x = reduced("e-spikeformer-83M")
    model = ptfile.load_model(saved(tmp_path, module), LoadOptions(input_shape=tuple(x.shape[1:])))
    assert to_text(model.graph) == to_text(snncc_torch.capture(module, x).graph)


def test_forged_attributes(tmp_path):
    module, _ = reduced("e-spikeformer", calibrated=False)
    head = module.head
    head.fc_distill = "x"
    value = "attribute {} has a value it cannot have"
    assert problems(saved(tmp_path, module)) == [("SNNC-M009", "head", value.format("fc_distill"))]
    del head.fc_distill
    assert problems(saved(tmp_path, module)) == [("SNNC-M009", "head", "lacks the attribute fc_distill")]
    head.fc_distill = torch.nn.Linear(2, 2)
    head.space = (-2, 10**9)
    head.other = torch.nn.Identity()
    assert problems(saved(tmp_path, module)) == [
        ("SNNC-M009", "head", value.format("space")),
        ("SNNC-M009", "head", "has child modules that its class lacks"),
    ]
    module, _ = reduced("sew-resnet-basic-iand", calibrated=False)
    module.T = 10**6
    assert ("SNNC-M009", "model", value.format("T")) in problems(saved(tmp_path, module))

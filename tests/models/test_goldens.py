"""What Keras, timm and torchvision computed from weights that are drawn again here; see `tests.parity.goldens`."""

import json

import numpy as np
import pytest
import safetensors.numpy

from tests.models.drawn import draw
from tests.parity import goldens
from tests.parity.networks import NETWORKS, run

GOLDENS = json.loads(goldens.PATH.read_text())


@pytest.mark.parametrize("name", goldens.PEERS)
def test_a_peers_stages_and_logits(name, tmp_path):
    golden, network = GOLDENS[name], NETWORKS[name]
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(draw(goldens.read_shapes(golden), network.gain), path)
    outputs, _ = run(network.load(path), goldens.IMAGES, train=False)
    ours = goldens.summarise(outputs)
    stages, their_stages = (np.array(stages) for stages in (ours["stages"], golden["stages"]))
    assert (np.abs(stages - their_stages) / their_stages[:, :1]).max() < 1e-4
    np.testing.assert_allclose(ours["logits"], golden["logits"], atol=1e-4 * np.abs(golden["logits"]).max())

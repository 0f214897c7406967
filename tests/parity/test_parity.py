"""Our networks compute what Keras, timm and torchvision compute from the same weights."""

import importlib.util

import pytest

from segfusion_jax.models import efficientnet, layers, mobilenet_v3, preprocessing
from segfusion_jax.models.pretrained import flatten
from tests.models.drawn import images
from tests.parity import comparison
from tests.parity.comparison import Errors, make_peer, relative_error
from tests.parity.networks import NETWORKS, run

pytestmark = pytest.mark.parity


def needs(framework: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(framework) is None, reason=f"needs {framework}")


def of(*names: str) -> pytest.MarkDecorator:
    """Parametrises by peers."""
    params = [pytest.param(name, marks=needs(name.split()[0])) for name in names]
    return pytest.mark.parametrize("name", params)


OF_EVERY_KIND = of(
    "keras EfficientNetB0",
    "keras MobileNetV3Large",
    "timm efficientnet_b0",
    "timm tf_mobilenetv3_large_100",
    "torchvision efficientnet_b0",
    "torchvision mobilenet_v3_small",
)


def check(errors: Errors) -> None:
    assert all(error is None or error < 1e-4 for error in errors), errors


@of(*NETWORKS)
def test_stages_logits_and_statistics(name):
    _, errors = comparison.compare(name)
    assert (errors.train_logits is None) == (name in comparison.INFERENCE_ONLY)
    check(errors)


@needs("keras")
def test_keras_with_imagenets_weights_normalises_as_we_do():
    _, errors = comparison.compare_imagenet()
    check(errors)


@needs("keras")
def test_the_papers_unet():
    _, errors = comparison.compare_unet()
    check(errors)


@of("keras EfficientNetB0", "keras MobileNetV3Small", "keras MobileNetV3Large")
def test_both_files_of_keras_say_the_same(name, tmp_path):
    from tests.parity.keras_peers import KerasPeer

    network = NETWORKS[name]
    peer = KerasPeer(name.split()[1], network.gain)
    legacy, keras_3 = network.load(peer.save(tmp_path)), network.load(peer.save_keras_3(tmp_path))
    assert legacy.preprocessing == keras_3.preprocessing
    for trees in ((legacy.params, keras_3.params), (legacy.batch_stats, keras_3.batch_stats)):
        one, other = map(flatten, trees)
        assert one.keys() == other.keys()
        assert all((one[key] == other[key]).all() for key in one)


@needs("keras")
def test_imagenets_normalisation_is_read_from_kerass_file(tmp_path):
    from tests.parity.keras_peers import PUBLISHED_NORMALISATION, KerasPeer

    peer = KerasPeer("EfficientNetB0", 2.0, PUBLISHED_NORMALISATION)
    expects = NETWORKS["keras EfficientNetB0"].load(peer.save(tmp_path)).preprocessing
    assert [*expects.mean, *expects.std] == pytest.approx([*preprocessing.IMAGENET.mean, *preprocessing.IMAGENET.std])


@OF_EVERY_KIND
def test_the_other_padding_or_epsilon_is_another_network(name, tmp_path, monkeypatch):
    peer, network = make_peer(name), NETWORKS[name]
    path, batch = peer.save(tmp_path), images(*comparison.EVEN)
    theirs, _ = peer.run(batch, train=False)
    right = layers.conventions_of(network.name, network.conventions)
    other_padding = right._replace(padding={"same": "symmetric", "symmetric": "same"}[right.padding])
    other_epsilon = right._replace(epsilon={1e-3: 1e-5, 1e-5: 1e-3}[right.epsilon])
    for wrong, least in ((other_padding, 1e-2), (other_epsilon, 5e-4)):
        for module in (efficientnet, mobilenet_v3):
            monkeypatch.setattr(module, "conventions_of", lambda *_, wrong=wrong: wrong)
        ours, _ = run(network.load(path), batch, train=False)
        assert relative_error(ours.logits, theirs.logits) > least, wrong


@OF_EVERY_KIND
def test_a_file_is_refused_for_other_families(name, tmp_path):
    path, network = make_peer(name).save(tmp_path), NETWORKS[name]
    for conventions in {"tensorflow", "timm", "torchvision"} - {network.conventions}:
        with pytest.raises(ValueError, match=f"the model's conventions is '{conventions}'"):
            network._replace(conventions=conventions).load(path)

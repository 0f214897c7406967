"""Models as a config asks for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.config import Bridge, Classifier, Segmenter
from segfusion_jax.models import from_config
from segfusion_jax.models.functional import Functional
from tests.models import lukemelas

SMALL = Classifier(width=0.25, depth=0.5, image_size=(32, 32))


def shapes(make):
    """Shapes and dtypes of the arrays that `make` would draw, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda: make()[1:]))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def test_unet_has_the_configs_filters():
    made = shapes(lambda: from_config.make_unet(Segmenter(filters=3), seed=0, dtype=jnp.float32))
    assert made["[0]['down'][0]['conv1']['kernel']"].shape == (3, 3, 3, 3)
    assert made["[0]['bottom']['conv2']['kernel']"].shape == (3, 3, 48, 48)


def test_weights_are_a_function_of_the_seed():
    config = Segmenter(filters=1)
    first, again, other = (from_config.make_unet(config, seed=seed, dtype=jnp.float32).params for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = [params["bottom"][conv]["kernel"] for params in (first, other) for conv in ("conv1", "conv2")]
    for index, kernel in enumerate(kernels):
        for later in kernels[index + 1 :]:
            assert np.isin(kernel, later).mean() < 0.01  # by chance


@pytest.mark.parametrize(("mode", "channels"), [("channel", 4), ("dim", 3), ("mask_only", 3)])
def test_the_classifier_has_one_logit_and_as_many_inputs_as_the_bridge_makes(mode, channels):
    made = shapes(lambda: from_config.make_classifier(SMALL, Bridge(mode=mode), seed=0, dtype=jnp.float32))
    assert made["[0]['stem']['conv']['kernel']"].shape == (3, 3, channels, 8)
    assert made["[0]['head']['kernel']"].shape == (1280, 1)


def classifier_of_zeros() -> Functional:
    def make():
        return from_config.make_classifier(SMALL, Bridge(), seed=0, dtype=jnp.float32)[1:]

    trees = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(make))
    return Functional(lambda: None, *trees)


def test_pretrained_weights_are_found_in_the_folders_of_segfusion_data(tmp_path, monkeypatch):
    arrays = lukemelas.arrays()
    (tmp_path / "weights").mkdir()
    np.savez(tmp_path / "weights" / "small.npz", **arrays)
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    config = Classifier(width=0.25, depth=0.5, pretrained="small.npz")
    assert from_config.find_pretrained(config) == tmp_path / "weights" / "small.npz"
    loaded = from_config.load_pretrained(config, classifier_of_zeros())
    np.testing.assert_array_equal(loaded.params["top"]["norm"]["scale"], arrays["_bn1.weight"])
    np.testing.assert_array_equal(loaded.batch_stats["top"]["norm"]["var"], arrays["_bn1.running_var"])


def test_without_a_weight_file_the_classifier_stays_as_it_is():
    classifier = classifier_of_zeros()
    assert from_config.load_pretrained(SMALL, classifier) is classifier


def test_a_missing_weight_file_is_named(monkeypatch):
    monkeypatch.delenv("SEGFUSION_DATA", raising=False)
    message = r"config.classifier.pretrained = 'nowhere.npz': no such file.*SEGFUSION_DATA.*lukemelas"
    with pytest.raises(FileNotFoundError, match=message):
        from_config.find_pretrained(Classifier(pretrained="nowhere.npz"))

"""Models as a config asks for them."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.config import Bridge, Classifier, Segmenter
from segfusion_jax.models import efficientnet, from_config, mobilenet_v3, preprocessing, published
from segfusion_jax.models.functional import Functional
from segfusion_jax.models.mobilenet_v3 import MobileNetV3
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.models.published import Published
from segfusion_jax.models.unet import EncoderUNet
from tests.models import lukemelas
from tests.models.filled import filled, redrawn

SMALL = Classifier(width=0.25, depth=0.5, image_size=(32, 32))


def shapes(make):
    """Shapes and dtypes of the arrays that `make` would draw, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda: make()[1:3]))
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


def test_the_classifier_of_diagnoses_has_one_logit_each():
    made = shapes(lambda: from_config.make_classifier(SMALL, Bridge(), seed=0, dtype=jnp.float32, num_logits=7))
    assert made["[0]['head']['kernel']"].shape == (1280, 7)


def classifier_of_zeros() -> Functional:
    def make():
        return from_config.make_classifier(SMALL, Bridge(), seed=0, dtype=jnp.float32)[1:3]

    trees = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(make))
    expects = preprocessing.IMAGENET._replace(image_size=SMALL.image_size)
    return Functional(lambda: None, *trees, expects, "tensorflow")


@pytest.mark.parametrize(
    ("backbone", "conventions", "padding", "epsilon"),
    [
        ("efficientnet_b0", "tensorflow", "same", 1e-3),
        ("efficientnet_b0", "timm", "symmetric", 1e-5),
        *((f"efficientnet_b{n}", "torchvision", "symmetric", 1e-5 if n < 5 else 1e-3) for n in range(8)),
        ("mobilenet_v3_small", "torchvision", "symmetric", 1e-3),
        ("mobilenet_v3_large", "torchvision", "symmetric", 1e-3),
        ("mobilenet_v3_large", "timm", "symmetric", 1e-5),
    ],
)
def test_backbones_compute_like_the_family(backbone, conventions, padding, epsilon, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        from_config,
        "ImageClassifier",
        lambda plan, *, conventions, **_: seen.update(plan=plan, conventions=conventions),
    )
    monkeypatch.setattr(from_config, "functional", lambda *_: None)
    from_config.make_classifier(
        Classifier(backbone=backbone, conventions=conventions), Bridge(), seed=0, dtype=jnp.float32
    )
    assert seen["conventions"] == (conventions, padding, epsilon)
    if backbone in mobilenet_v3.VARIANTS:
        assert seen["plan"] == mobilenet_v3.plan(backbone)
    else:
        assert seen["plan"] == efficientnet.plan(backbone)


def test_networks_are_built_with_the_configs_options(monkeypatch):
    seen = {}
    for name in ("EncoderUNet", "ImageClassifier"):
        monkeypatch.setattr(from_config, name, lambda plan, name=name, **options: seen.update({name: options}))
    monkeypatch.setattr(from_config, "functional", lambda *_: None)
    common = dict(seed=0, dtype=jnp.bfloat16, axis_name="data", remat=True)
    follows = dict(conventions="torchvision", dropout=0.3)
    from_config.make_unet(Segmenter(encoder="mobilenet_v3_small", filters=5, **follows), **common)
    from_config.make_classifier(Classifier(drop_path=0.7, **follows), Bridge(), **common)
    shared = dict(dropout=0.3, axis_name="data", remat=True, dtype=jnp.bfloat16)
    expected = {
        "EncoderUNet": shared | {"filters": 5, "conventions": ("torchvision", "symmetric", 1e-3)},
        "ImageClassifier": shared | {"drop_path": 0.7},
    }
    for name, options in expected.items():
        assert options.items() <= seen[name].items(), name


def test_a_unet_has_the_configs_encoder():
    config = Segmenter(encoder="mobilenet_v3_small", filters=4)
    made = shapes(lambda: from_config.make_unet(config, seed=0, dtype=jnp.float32))
    assert made["[0]['encoder']['blocks'][7]['project']['conv']['kernel']"].shape == (1, 1, 144, 48)
    assert made["[0]['head']['kernel']"].shape == (1, 1, 4, 1)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ["unet", "encoder unet", "classifier"])
def test_with_remat_training_computes_each_block_again(name, train):
    options = dict(seed=0, dtype=jnp.float32, remat=True)
    if name == "classifier":
        model = from_config.make_classifier(SMALL, Bridge(), **options)
        blocks = len(model.params["blocks"])
    elif name == "unet":
        model, blocks = from_config.make_unet(Segmenter(filters=1), **options), 4 + 1 + 4
    else:
        model = from_config.make_unet(Segmenter(encoder="efficientnet_b0", filters=1), **options)
        blocks = 11 + 4
    images = np.zeros((1, 32, 32, 3), np.float32)
    traced = jax.make_jaxpr(lambda *args: model.apply(*args, train=train))(model.params, model.batch_stats, images)
    primitive = jax.make_jaxpr(jax.checkpoint(jnp.sin))(0.0).eqns[0].primitive
    assert sum(equation.primitive is primitive for equation in traced.eqns) == (blocks if train else 0)


def test_models_expect_images_of_the_configs_size():
    assert classifier_of_zeros().preprocessing == preprocessing.IMAGENET._replace(image_size=(32, 32))
    unet = from_config.make_unet(Segmenter(filters=1, image_size=(32, 48)), seed=0, dtype=jnp.float32)
    assert unet.preprocessing == preprocessing.NONE._replace(image_size=(32, 48))


def test_an_encoder_is_loaded_and_brings_its_preprocessing(tmp_path):
    plan = mobilenet_v3.plan("mobilenet_v3_small")
    backbone = filled(lambda: MobileNetV3("mobilenet_v3_small", num_classes=5, rngs=nnx.Rngs(0)))
    backbone = backbone._replace(preprocessing=preprocessing.CENTRED)
    save_weights(tmp_path / "small.safetensors", backbone)
    config = Segmenter(
        encoder="mobilenet_v3_small", filters=1, image_size=(48, 48), pretrained=str(tmp_path / "small.safetensors")
    )
    unet = filled(lambda: EncoderUNet(plan, filters=1, rngs=nnx.Rngs(0)), seed=1)
    loaded = from_config.load_unet(config, unet)
    assert loaded.preprocessing == preprocessing.CENTRED._replace(image_size=(48, 48))
    blocks = {number: block for number, block in backbone.params["blocks"].items() if number < 8}
    encoder = {"stem": backbone.params["stem"], "blocks": blocks}
    jax.tree.map(np.testing.assert_array_equal, loaded.params["encoder"], encoder)
    jax.tree.map(np.testing.assert_array_equal, loaded.params["up"], unet.params["up"])
    assert from_config.load_unet(Segmenter(), unet) is unet


@pytest.mark.parametrize("encoder", ["", "mobilenet_v3_small"])
def test_a_whole_unet_is_loaded(tmp_path, encoder):
    def drawn(seed, filters=1):
        config = Segmenter(encoder=encoder, filters=filters)
        return redrawn(from_config.make_unet(config, seed=0, dtype=jnp.float32), seed)

    theirs, ours = drawn(1), drawn(2)
    save_weights(tmp_path / "unet.safetensors", theirs._replace(preprocessing=preprocessing.CENTRED))
    fields = dict(encoder=encoder, filters=1, image_size=(48, 64), pretrained=str(tmp_path / "unet.safetensors"))
    loaded = from_config.load_unet(Segmenter(**fields), ours)
    jax.tree.map(np.testing.assert_array_equal, loaded[1:3], theirs[1:3])
    assert loaded.preprocessing == preprocessing.CENTRED._replace(image_size=(48, 64))
    with pytest.raises(ValueError, match="has shape .* It is a whole U-Net: encoder, filters and conventions"):
        from_config.load_unet(Segmenter(**fields), drawn(3, filters=2))


def test_without_an_encoder_other_weights_have_no_place(tmp_path):
    np.savez(tmp_path / "b0.npz", **lukemelas.arrays())
    unet = from_config.make_unet(Segmenter(filters=1), seed=0, dtype=jnp.float32)
    with pytest.raises(ValueError, match="config.segmenter.pretrained = .* holds no U-Net of ours"):
        from_config.load_unet(Segmenter(filters=1, pretrained=str(tmp_path / "b0.npz")), unet)


@pytest.mark.parametrize("prefix", ["module.", "state_dict.model."])
def test_wrapped_weights_are_those_of_the_plain_file(tmp_path, prefix):
    wrapped = {f"{prefix}{name}": array for name, array in lukemelas.arrays().items()} | {"loss.weight": np.ones(2)}
    np.savez(tmp_path / "b0.npz", **wrapped)
    config = Classifier(width=0.25, depth=0.5, image_size=(32, 32), pretrained=str(tmp_path / "b0.npz"))
    loaded = from_config.load_backbone(config, classifier_of_zeros())
    np.testing.assert_array_equal(loaded.params["top"]["norm"]["scale"], lukemelas.arrays()["_bn1.weight"])


def test_our_own_names_without_metadata_are_refused_with_the_remedy(tmp_path):
    np.savez(tmp_path / "own.npz", **{"stem.conv.kernel": np.zeros((3, 3, 3, 8), np.float32)})
    config = Classifier(width=0.25, depth=0.5, image_size=(32, 32), pretrained=str(tmp_path / "own.npz"))
    with pytest.raises(
        ValueError, match="no safetensors file with our metadata.*take the file that save_weights wrote"
    ):
        from_config.load_backbone(config, classifier_of_zeros())


def test_a_head_of_any_name_is_named_by_the_config(tmp_path):
    np.savez(tmp_path / "b0.npz", **lukemelas.arrays() | {"fc.weight": np.ones((7, 1280))})
    config = dict(width=0.25, depth=0.5, image_size=(32, 32), pretrained=str(tmp_path / "b0.npz"))
    with pytest.raises(ValueError, match="superfluous fc.weight"):
        from_config.load_backbone(Classifier(**config), classifier_of_zeros())
    loaded = from_config.load_backbone(Classifier(**config, pretrained_head="fc"), classifier_of_zeros())
    np.testing.assert_array_equal(loaded.params["top"]["norm"]["scale"], lukemelas.arrays()["_bn1.weight"])


class TestPublished:
    @pytest.fixture(autouse=True)
    def one_published(self, tmp_path, monkeypatch):
        np.savez(tmp_path / "published.npz", **lukemelas.arrays())
        theirs = preprocessing.CENTRED._replace(image_size=(300, 300))
        digest = hashlib.sha256((tmp_path / "published.npz").read_bytes()).hexdigest()
        entry = Published("http://127.0.0.1:9/published.npz", digest, "efficientnet_b0", "tensorflow", theirs)
        monkeypatch.setattr(published, "PUBLISHED", {"b0.ours": entry})
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("SEGFUSION_DATA", raising=False)

    def config(self, **fields) -> Classifier:
        return Classifier(**dict(width=0.25, depth=0.5, image_size=(32, 32), pretrained="b0.ours") | fields)

    def test_a_published_name_is_taken_from_the_cache(self, tmp_path):
        cached = tmp_path / "cache/segfusion_jax/weights/published.npz"
        cached.parent.mkdir(parents=True)
        (tmp_path / "published.npz").rename(cached)
        assert from_config.find_pretrained(self.config()) == cached

    def test_a_published_file_may_lie_among_the_users_own_and_is_preprocessed_as_published(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
        assert from_config.find_pretrained(self.config()) == tmp_path / "published.npz"
        loaded = from_config.load_backbone(self.config(), classifier_of_zeros())
        assert loaded.preprocessing == preprocessing.CENTRED._replace(image_size=(32, 32))
        np.testing.assert_array_equal(loaded.params["top"]["norm"]["scale"], lukemelas.arrays()["_bn1.weight"])

    def test_a_folder_of_the_published_name_is_no_file(self, tmp_path, monkeypatch):
        (tmp_path / "b0.ours").mkdir()
        monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
        loaded = from_config.load_backbone(self.config(), classifier_of_zeros())
        assert loaded.preprocessing == preprocessing.CENTRED._replace(image_size=(32, 32))

    @pytest.mark.parametrize("fields", [dict(backbone="efficientnet_b1"), dict(conventions="timm")])
    def test_published_weights_of_another_network_are_refused_before_they_are_downloaded(self, fields):
        message = "config.classifier.pretrained = 'b0.ours': these weights are of 'efficientnet_b0', conventions 'tens"
        with pytest.raises(ValueError, match=message):
            from_config.find_pretrained(self.config(**fields))

    def test_offline_the_error_says_where_to_get_the_file_and_where_to_put_it(self, tmp_path):
        message = (
            "http://127.0.0.1:9/published.npz by hand and put it, as published.npz, into a folder of SEGFUSION_DATA"
        )
        with pytest.raises(OSError, match=message):
            from_config.find_pretrained(self.config())


def test_pretrained_weights_are_found_in_the_folders_of_segfusion_data(tmp_path, monkeypatch):
    arrays = lukemelas.arrays()
    (tmp_path / "weights").mkdir()
    np.savez(tmp_path / "weights" / "small.npz", **arrays)
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    config = Classifier(width=0.25, depth=0.5, pretrained="small.npz")
    assert from_config.find_pretrained(config) == tmp_path / "weights" / "small.npz"
    loaded = from_config.load_backbone(config, classifier_of_zeros())
    np.testing.assert_array_equal(loaded.params["top"]["norm"]["scale"], arrays["_bn1.weight"])
    np.testing.assert_array_equal(loaded.batch_stats["top"]["norm"]["var"], arrays["_bn1.running_var"])


def test_without_a_weight_file_the_classifier_stays_as_it_is():
    classifier = classifier_of_zeros()
    assert from_config.load_backbone(SMALL, classifier) is classifier


def test_a_missing_weight_file_is_named(monkeypatch):
    monkeypatch.delenv("SEGFUSION_DATA", raising=False)
    message = r"config.classifier.pretrained = 'nowhere.npz': no such file.*SEGFUSION_DATA.*lukemelas"
    with pytest.raises(FileNotFoundError, match=message):
        from_config.find_pretrained(Classifier(pretrained="nowhere.npz"))

"""What wraps the names of a network: as training loops and frameworks save it."""

import numpy as np
import pytest

from segfusion_jax.models.unwrapping import unwrap

STEMS = [
    "conv_stem.weight",
    "_conv_stem.weight",
    "features.0.0.weight",
    "stem_conv/kernel",
    "Conv/0",
    "stem.conv.kernel",
]
PREFIXES = [
    "",
    "module.",
    "model.",
    "_orig_mod.",
    "encoder.",
    "backbone.",
    "module._orig_mod.",
    "state_dict.model.net.",
    "model_state_dict.",
    "efficientnetb0/",
]


def named(*names: str) -> dict[str, np.ndarray]:
    return {name: np.array(number) for number, name in enumerate(names)}


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_the_stem_is_taken_off_every_name(prefix, stem):
    arrays = unwrap(named(f"{prefix}{stem}", f"{prefix}blocks.0.module.bias", "loss.weight" if prefix else "other"))
    assert {name: int(array) for name, array in arrays.items()} == {
        stem: 0,
        "blocks.0.module.bias": 1,
        **({} if prefix else {"other": 2}),
    }


def test_wrappers_within_names_are_taken_out():
    names = "conv_stem.weight", "blocks.0._orig_mod.0.conv_pw.weight", "blocks.1._checkpoint_wrapped_module.0.bn1.bias"
    assert list(unwrap(named(*names))) == ["conv_stem.weight", "blocks.0.0.conv_pw.weight", "blocks.1.0.bn1.bias"]
    flax = "params.stem.conv.kernel", "batch_stats.stem.norm.mean"
    assert list(unwrap(named(*flax))) == ["stem.conv.kernel", "stem.norm.mean"]


def test_a_stem_within_the_network_is_no_other_network():
    names = ["Conv/kernel", "expanded_conv/squeeze_excite/Conv/kernel"]
    assert list(unwrap(named(*names))) == names
    assert list(unwrap(named(*(f"nested/{name}" for name in names)))) == names


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [
        ("state_dict.", "state_dict_ema."),
        ("model.", "ema.module."),
        ("state_dict.model.", "state_dict.model_ema.module."),
        ("current_model_state.model.", "state_dict.model."),
        ("opt_state.0.mu.", "params."),
        ("optimizer.exp_avg.", "net."),
    ],
)
def test_averaged_weights_are_preferred_and_an_optimizers_moments_are_none(raw, averaged):
    arrays = unwrap(named(f"{raw}conv_stem.weight", f"{averaged}conv_stem.weight"))
    assert {name: int(array) for name, array in arrays.items()} == {"conv_stem.weight": 1}


def test_what_could_be_either_of_two_is_refused():
    with pytest.raises(ValueError, match="it holds 2 networks, student., teacher.; save"):
        unwrap(named("student.conv_stem.weight", "teacher.conv_stem.weight"))
    with pytest.raises(ValueError, match="several arrays are called a.b"):
        unwrap(named("a._orig_mod.b", "a.b"))


def test_names_of_nobody_stay():
    names = ["module.a", "module.b"]
    assert list(unwrap(named(*names))) == names

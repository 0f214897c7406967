"""Toy networks, trained by the trainer; that they learn from the right images is tested with the stages."""

import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

from segfusion_jax.config import Augmentation, Checkpointing, Data, Input, Source, Training
from segfusion_jax.models.functional import Functional
from segfusion_jax.models.preprocessing import NONE
from segfusion_jax.training import metric_log, steps
from segfusion_jax.training.trainer import Member, Phase, Recipe, Trainer, sampling_weights, steps_per_epoch
from tests.training import toy

OPTIMIZERS = {"first": optax.sgd(0.1), "second": optax.sgd(0.0)}  # which changes nothing
CONFIG = types.SimpleNamespace(
    input=Input(num_threads=2, log_seconds=1e9), checkpoints=Checkpointing(), data=Data(), metric_logger=""
)
EXAMPLES = toy.examples(16)


class Toys:
    """Two phases, of two epochs and of one; counts tracings and keeps what is scored."""

    def __init__(self):
        self.traced, self.scored = [], []
        self.recipe = Recipe(
            phases={
                name: Phase(Training(epochs=n, batch_size=4), self.step(name), OPTIMIZERS[name])
                for name, n in (("first", 2), ("second", 1))
            },
            augmentation=Augmentation(),
            predict=lambda variables, batch: variables[0]["bias"] + batch["image"].mean((1, 2, 3)),
            score=self.score,
            best_metric="early",
            steps_per_epoch=3,
            most_images=16,
        )

    def step(self, phase):
        step = steps.make_train_step(toy.objective, OPTIMIZERS[phase], seed=1, ema_decay=0.0)

        def traced(state, batch):
            self.traced.append(phase)
            return step(state, batch)

        return traced

    def score(self, predicted):
        rows, outputs = zip(*predicted, strict=True)
        self.scored.append((rows, np.array(outputs)))
        return {"early": -float(len(self.scored)), "loss": 0.0}


def member(folder, bias=0.0, **seeds) -> Member:
    params, batch_stats = toy.variables()

    def make():
        return Functional(lambda *_: None, params | {"bias": jnp.float32(bias)}, batch_stats, NONE)

    weights = folder / "weights.safetensors"
    return Member(f"toy {bias}", weights, make, EXAMPLES, toy.examples(5), {"first": 1, "second": 2} | seeds)


def train(toys: Toys, *members: Member) -> None:
    Trainer(toy.devices(4), CONFIG).train(toys.recipe, members)


def arrays(folder) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / "weights.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the members a and b, trained in one go, and what the trainer did."""
    toys, folder = Toys(), tmp_path_factory.mktemp("trained")
    train(toys, member(folder / "a", 0.0), member(folder / "b", 5.0))
    return folder, toys


def test_each_phase_is_compiled_once_for_all_members(trained):
    _, toys = trained
    assert toys.traced == ["first", "second"]


def test_each_phase_has_its_folder_and_its_epochs(trained):
    for name in ("a", "b"):
        for phase, epochs in (("first", 2), ("second", 1)):
            lines = metric_log.read(trained[0] / name / phase / "metrics.jsonl")
            assert [line["step"] for line in lines if line["split"] == "validation"] == [3, 6][:epochs]
            assert sum(line["split"] == "train" for line in lines) == 3 * epochs


def test_a_phase_goes_on_from_the_best_weights_of_the_one_before(trained):
    folder, toys = trained
    for number, name in enumerate("ab"):
        scored = toys.scored[3 * number : 3 * number + 3]  # an epoch each; the first of a phase is its best
        before, after = scored[0][1], scored[2][1]
        assert np.abs(scored[1][1] - before).min() > 1e-3
        np.testing.assert_array_equal(before, after)
        plain = np.array([toy.examples(5)[i]["image"].mean() for i in range(5)])
        np.testing.assert_allclose(after - plain, arrays(folder / name)["bias"], rtol=0, atol=1e-4)
        assert [row.position for row in scored[2][0]] == [0, 1, 2, 3, 4]
    assert abs(arrays(folder / "a")["bias"] - arrays(folder / "b")["bias"]) > 1  # each from its own initial weights


def test_a_member_that_is_done_is_left_alone(trained, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"done")
    toys = Toys()
    train(toys, member(tmp_path))
    assert not toys.traced and [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("phase", ["first", "second"])
def test_the_seeds_of_each_phase_decide_its_batches(trained, tmp_path, phase):
    folder, toys = trained
    train(toys, member(tmp_path, **{phase: 7}))
    losses = {
        where: [line["loss"] for line in metric_log.read(path / phase / "metrics.jsonl") if line["split"] == "train"]
        for where, path in (("theirs", folder / "a"), ("ours", tmp_path))
    }
    assert len(losses["ours"]) and losses["ours"] != losses["theirs"]


def test_an_epoch_is_what_the_images_of_an_average_member_make():
    assert steps_per_epoch(Training(batch_size=4), [10, 15]) == 3  # 12 images
    assert steps_per_epoch(Training(batch_size=4, images_per_epoch=9), [100]) == 2
    assert steps_per_epoch(Training(batch_size=64), [10]) == 1


def test_balanced_sampling_draws_the_classes_alike():
    rows = [types.SimpleNamespace(target=target, source="ph2") for target in (0, 0, 0, 1)]
    assert sampling_weights(Training(), rows, Data(collection="ph2")) is None
    weights = sampling_weights(Training(sampling="balanced"), rows, Data(collection="ph2"))
    assert weights[3] == pytest.approx(sum(weights[:3]))


SEVERAL = Data(collection="", collections={"ph2": Source(), "isic2020": Source(weight=3.0)})
DRAWN = [  # collection, origin, class
    *[("ph2", "", 0)] * 2,
    *[("ph2", "", 1)] * 4,
    *[("isic2020", "here", 0)] * 6,
    *[("isic2020", "there", 0)] * 2,
    ("isic2020", "there", 1),
]


@pytest.mark.parametrize(
    ("shares", "sampling", "expected"),
    [  # of the six kinds above, by hand
        ("natural", "shuffled", [2, 4, 18, 6, 3]),
        ("natural", "balanced", [1 / 13, 4 / 7, 9 / 13, 3 / 13, 3 / 7]),
        ("collections", "shuffled", [1 / 3, 2 / 3, 3 * 6 / 9, 3 * 2 / 9, 3 / 9]),
        ("collections", "balanced", [1 / 4, 1 / 4, 9 / 16, 3 / 16, 3 / 4]),
        ("origins", "shuffled", [1 / 3, 2 / 3, 3, 2, 1]),
        ("origins", "balanced", [1 / 7, 1 / 4, 3 / 7, 3 / 7, 3 / 4]),
    ],
)
def test_shares_of_classes_and_collections(shares, sampling, expected):
    rows = [types.SimpleNamespace(source=source, origin=origin, target=target) for source, origin, target in DRAWN]
    weights = sampling_weights(Training(shares=shares, sampling=sampling), rows, SEVERAL)
    found = [sum(weights[i] for i, one in enumerate(DRAWN) if one == kind) for kind in dict.fromkeys(DRAWN)]
    np.testing.assert_allclose(found, expected)

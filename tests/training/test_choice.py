"""What is said of the epoch whose weights are kept."""

import pytest

from segfusion_jax.training.choice import told


def line(epoch: int, score: float, loss: float, **more) -> dict:
    return {"split": "validation", "step": epoch, "epoch": epoch, "auc": score, "loss": loss, **more}


def test_it_is_told_how_many_epochs_are_equal_and_how_sure_the_score_is():
    sure = {"auc_low": 0.74, "auc_high": 1.0}
    lines = [line(1, 0.9, 0.1), line(2, 1.0, 0.889, **sure), line(3, 1.0, 0.007, **sure), line(4, 1.0, 0.4, **sure)]
    assert told([{"split": "train", "loss": 0.0}, *lines], "auc") == (
        "epoch 3 of 4 is kept, auc 1.0000 (95 % interval 0.7400 to 1.0000); "
        "3 epochs are equal in it, with losses from 0.0070 to 0.8890"
    )


@pytest.mark.parametrize(("metric", "kept"), [("auc", 2), ("loss", 1)])
def test_an_epoch_that_has_none_beside_it_is_told_alone(metric, kept):
    assert told([line(1, 0.8, 0.1), line(2, 0.9, 0.2)], metric).startswith(f"epoch {kept} of 2 is kept, {metric} 0.")
    assert "equal" not in told([line(1, 0.8, 0.1), line(2, 0.9, 0.2)], metric)


def test_without_a_validation_there_is_nothing_to_tell():
    assert told([], "auc") == "no epoch was validated"

import pytest

from segfusion_jax.datasets.causes import refuse_indivisible
from tests.datasets.rows import row


def refuse(rows):
    refuse_indivisible(rows, (False, True), ["the label is 'x'"], ("benign", "malignant"))


def test_images_without_labels():
    with pytest.raises(ValueError, match=r"none of the 2 images has a label. .*labels.toml(.|\n)*the label is 'x'"):
        refuse([row(0, target=-1), row(1, target=-1)])


def test_images_of_one_kind():
    with pytest.raises(ValueError, match="no image is malignant, 5 benign: both kinds are needed"):
        refuse([row(i, target=0) for i in range(5)])


def test_images_of_too_few_patients():
    benign = [row(i, target=0) for i in range(6)]
    same = [row(10 + i, target=1, group="g", patient_id="p1") for i in range(4)]
    with pytest.raises(ValueError, match=r"the 4 malignant images are of 1 group \(4 of patient p1\)"):
        refuse(benign + same)
    refuse(benign + [row(10 + i, target=1) for i in range(3)])
    with pytest.raises(ValueError, match="are of 2 groups"):  # the official test set lends none
        refuse(benign + [row(10 + i, target=1, partition="test" if i == 2 else "") for i in range(3)])

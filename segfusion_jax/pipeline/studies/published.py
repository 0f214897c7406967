"""What the paper reports: its README, the legends of its figures, and what was read off their curves."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """The figures of one collection, all as shares of 1.

    Attributes:
      without_bridge: accuracy of the same method without its bridge.
      accuracy, precision, recall, f1, mcc, roc_auc, pr_auc: with it, as printed.
      best_balanced_accuracy: the largest on the ROC curve that is drawn.
      prevalence: malignant share of the test images, which is the precision at full recall on the curve that is drawn.
      positives: malignant test images, which the first step down of that curve tells: k / (k + 1) after k hits.
      malignant: malignant images that the collection holds.
      images: all images that it holds.
    """

    without_bridge: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    mcc: float
    roc_auc: float
    pr_auc: float
    best_balanced_accuracy: float
    prevalence: float
    positives: int
    malignant: int
    images: int


PUBLISHED = {
    "ham10000": Published(
        without_bridge=0.7973,
        accuracy=0.9821,
        precision=0.98,
        recall=0.98,
        f1=0.98,
        mcc=0.96,
        roc_auc=0.99,
        pr_auc=0.99,
        best_balanced_accuracy=0.938,
        prevalence=0.497,
        positives=496,
        malignant=1954,
        images=10015,
    ),
    "isic2019": Published(
        without_bridge=0.8259,
        accuracy=0.9893,
        precision=0.99,
        recall=0.98,
        f1=0.99,
        mcc=0.98,
        roc_auc=1.0,
        pr_auc=1.0,
        best_balanced_accuracy=0.969,
        prevalence=0.477,
        positives=240,
        malignant=9340,
        images=25331,
    ),
    "isic2020": Published(
        without_bridge=0.82,
        accuracy=0.9901,
        precision=0.99,
        recall=0.99,
        f1=0.99,
        mcc=0.97,
        roc_auc=1.0,
        pr_auc=1.0,
        best_balanced_accuracy=0.986,
        prevalence=0.499,
        positives=508,
        malignant=584,
        images=33126,
    ),
}
"""By collection."""

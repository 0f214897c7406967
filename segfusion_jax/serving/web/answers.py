"""From what the model says of an image to what is sent."""

import base64
import dataclasses

import cv2
import numpy as np

from segfusion_jax.bridge.resize import resize
from segfusion_jax.models.malignancy import malignancy
from segfusion_jax.serving import segfusion
from segfusion_jax.serving.facts import Facts, OperatingPoint
from segfusion_jax.serving.web import schema

_SIDE = 1024  # pixels of the longer side of pictures
_FOR, _AGAINST = (178, 24, 43), (33, 102, 172)  # RGB; distinct under every kind of colour blindness
_OPACITY = 0.75  # of the strongest evidence


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
      point: operating point by which is decided; None where no class is looked for.
      prevalence: share of malignant images for which the probabilities shall hold; None = the model's own.
      mask: in which format masks are sent.
      pictures: whether pictures are sent.
    """

    point: OperatingPoint | None
    prevalence: float | None
    mask: schema.MaskFormat
    pictures: bool


def answer(file: str, image: np.ndarray, said: segfusion.Prediction, facts: Facts, asked: Asked) -> schema.Prediction:
    """Returns what is sent of an image.

    Args:
      file: name that the client gave it.
      image: [height, width, 3] uint8 RGB.
      said: what the model says of it at its own prevalence; with evidence where pictures are asked for.
      facts: about the model.
      asked: what is asked for.
    """
    positive, shares = np.array(facts.positive), np.array([said.probabilities[name] for name in facts.classes])
    if asked.prevalence is not None and facts.prevalence is not None:
        shares = segfusion.at_prevalence(shares, positive, own=facts.prevalence, prevalence=asked.prevalence)
    return schema.Prediction(
        file=file,
        width=image.shape[1],
        height=image.shape[0],
        probability=None if asked.point is None else float(malignancy(shares, positive)),
        decision=_decision(said, facts, asked),
        operating_point=None if asked.point is None else schema.Point(**asked.point.told()),
        prevalence=facts.prevalence if asked.prevalence is None else asked.prevalence,
        probabilities=dict(zip(facts.classes, shares.tolist(), strict=True)),
        novelty=said.novelty,
        familiar=said.familiar,
        fallback=said.fallback,
        mask_share=float(said.mask.mean()),
        measurements=None if said.fallback else measure(said.mask),
        mask=_mask(said.mask, asked.mask),
        pictures=_pictures(image, said) if asked.pictures else None,
    )


def _decision(said: segfusion.Prediction, facts: Facts, asked: Asked) -> str:
    if asked.point is None or said.probability is None:
        return said.most_probable
    return facts.decisions[int(said.probability >= asked.point.threshold)]


def measure(mask: np.ndarray) -> schema.Measurements:
    """Returns the area and the longest diameter of a mask [height, width] bool that is not empty."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.float64)
    apart = np.abs(hull[:, None] - hull[None]) + 1  # from edge to edge of the pixels
    return schema.Measurements(area=int(mask.sum()), diameter=float(np.hypot(apart[..., 0], apart[..., 1]).max()))


def rle(mask: np.ndarray) -> schema.Rle:
    """Returns a mask [height, width] bool by its run lengths."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return schema.Rle(size=(mask.shape[0], mask.shape[1]), counts=counts.tolist())


def _mask(mask: np.ndarray, kind: schema.MaskFormat) -> str | schema.Rle | None:
    if kind == "rle":
        return rle(mask)
    return None if kind == "none" else _encoded(".png", np.multiply(mask, 255, dtype=np.uint8))


def _pictures(image: np.ndarray, said: segfusion.Prediction) -> schema.Pictures:
    assert said.evidence is not None and said.bridged is not None  # which were asked for
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    size = max(1, round(scale * image.shape[0])), max(1, round(scale * image.shape[1]))
    return schema.Pictures(
        image="data:image/jpeg;base64," + _encoded(".jpg", _bgr(resize(image, size))),
        bridged="data:image/jpeg;base64," + _encoded(".jpg", _bgr(said.bridged)),
        evidence="data:image/png;base64," + _encoded(".png", _evidence(resize(said.evidence, size))),
    )


def _evidence(values: np.ndarray) -> np.ndarray:
    """Returns evidence [height, width] as colours, BGR and opacity, uint8; the strongest is the least transparent."""
    relative = values / (float(np.abs(values).max()) or 1.0)
    colours = np.where(relative[..., None] > 0, np.array(_FOR[::-1], np.uint8), np.array(_AGAINST[::-1], np.uint8))
    opacity = np.round(255 * _OPACITY * np.abs(relative)).astype(np.uint8)
    return np.concatenate([colours, opacity[..., None]], axis=2)


def _bgr(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)


def _encoded(kind: str, pixels: np.ndarray) -> str:
    is_encoded, encoded = cv2.imencode(kind, pixels)
    if not is_encoded:
        raise ValueError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} pixels cannot be encoded")
    return base64.b64encode(encoded.tobytes()).decode("ascii")

"""What requests may ask for and what answers hold, as the OpenAPI page has it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MaskFormat = Literal["png", "rle", "none"]


class Interval(BaseModel):
    """A value on the model's own test images."""

    value: float
    low: float | None = Field(None, description="Lower end of the 95 % interval.")
    high: float | None = Field(None, description="Upper end of the 95 % interval.")


class Point(BaseModel):
    """An operating point: a threshold, and what it reached on the model's own test images."""

    name: str = Field(examples=["own", "sensitivity-0.9"])
    threshold: float = Field(description="At the model's own prevalence.", examples=[0.245])
    sensitivity: Interval | None = None
    specificity: Interval | None = None


class Class(BaseModel):
    """What the model tells apart."""

    name: str = Field(examples=["melanoma"])
    positive: bool = Field(description="Whether it is looked for: whether `probability` counts it.")
    malignant: bool | None = Field(description="None of somebody's own classes, of which nobody says so.")


class Accepted(BaseModel):
    """Limits of this server."""

    bytes: int = Field(description="Of a request's body.")
    pixels: int = Field(description="Of an image.")
    images: int = Field(description="Of a request.")
    queue: int = Field(description="Images of all requests that are under way together.")
    seconds: float = Field(description="For a body to arrive, and for an answer.")


class Model(BaseModel):
    """What is served."""

    digest: str = Field(description="SHA-256 of the model's manifest.")
    use: str
    classes: list[Class]
    decisions: list[str] = Field(
        description="What an image below the threshold is called, and one from it on; none if no class is looked for."
    )
    prevalence: float | None = Field(
        description="Share of malignant images for which the probabilities hold; None where no class is looked for."
    )
    operating_points: list[Point] = Field(
        description="The first is the one that the model was released with; none where no class is looked for."
    )
    data: list[dict[str, str]] = Field(description="What the model learned from, with licences.")
    limits: Accepted
    version: str = Field(description="Version of segfusion_jax.")


class Rle(BaseModel):
    """A mask by run lengths, as COCO has them uncompressed: column by column, beginning with what is no lesion."""

    size: tuple[int, int] = Field(description="Height and width.")
    counts: list[int]


class Measurements(BaseModel):
    """How large the lesion is, in pixels of the image."""

    area: int
    diameter: float = Field(description="The longest distance between two pixels of the lesion, both included.")


class Pictures(BaseModel):
    """Data URLs, reduced to at most 1024 pixels a side."""

    image: str = Field(description="JPEG, upright and in sRGB.")
    bridged: str = Field(description="JPEG: what the bridge shows to the classifiers.")
    evidence: str = Field(description="PNG with transparency, to be laid over the image: red for, blue against it.")


class Prediction(BaseModel):
    """What the model says of one image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "file": "lesion.jpg",
                    "width": 600,
                    "height": 450,
                    "probability": 0.62,
                    "decision": "malignant",
                    "operating_point": {"name": "own", "threshold": 0.245},
                    "prevalence": 0.18,
                    "probabilities": {"melanoma": 0.58, "nevus": 0.38, "basal cell carcinoma": 0.04},
                    "novelty": 0.4,
                    "familiar": True,
                    "fallback": "",
                    "mask_share": 0.21,
                    "measurements": {"area": 56700, "diameter": 331.2},
                    "mask": {"size": [450, 600], "counts": [270000]},
                }
            ]
        }
    )

    file: str
    width: int
    height: int
    probability: float | None = Field(
        description="Of malignancy, or of what is looked for, at `prevalence`; None where nothing is."
    )
    decision: str = Field(
        description="By the operating point, at the model's own prevalence; without one, the most probable class."
    )
    operating_point: Point | None
    prevalence: float | None
    probabilities: dict[str, float] = Field(description="Of each class, at `prevalence`; they add up to 1.")
    novelty: float = Field(description="How far the image is from those of the training; above 1 it is not familiar.")
    familiar: bool = Field(description="Of an image that is not, nobody knows what the rest is worth.")
    fallback: str = Field(description='"", or why there is no usable mask: "empty", "tiny" or "border".')
    mask_share: float = Field(description="Share of the image that is lesion; 1 where there is no usable mask.")
    measurements: Measurements | None = Field(None, description="None where there is no usable mask.")
    mask: str | Rle | None = Field(None, description="PNG in base64, 255 = lesion; or run lengths; as `mask` asks.")
    pictures: Pictures | None = None


class Predictions(BaseModel):
    """What the model says, image by image, in the order of the request."""

    use: str = "Research use only. Not a medical device."
    model: str = Field(description="SHA-256 of the model's manifest.")
    predictions: list[Prediction]


class FileProblem(BaseModel):
    """What was wrong with a file."""

    file: str
    detail: str


class ProblemDetails(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["1 of 2 images cannot be used."])
    accepted: str = ""
    files: list[FileProblem] = []

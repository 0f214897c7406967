"""Rows of the table, made by hand."""

from typing import Any

from segfusion_jax.datasets.table import Row


def row(number: int, **facts: Any) -> Row:
    """A nevus that is alone in its group, unless `facts` say otherwise."""
    image_id = facts.get("image_id", f"I{number:04d}")
    defaults: dict[str, Any] = dict(
        position=number,
        image_id=image_id,
        group=image_id,
        picture=image_id,
        lookalike=image_id,
        cut=image_id,
        lesion_id="",
        patient_id="",
        diagnosis="nevus",
        malignant=0,
        target=0,
        age=50.0,
        sex="",
        site="",
        skin_tone="",
        confirmation="",
        origin="",
        partition="",
        source="x",
        has_mask=True,
        width=600,
        height=450,
        file_bytes=1000,
        sha256=f"{number:064x}",
        perceptual_hash="",
    )
    return Row(**defaults | facts)

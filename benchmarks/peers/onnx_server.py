"""The server that a user would build of the exported file: FastAPI around ONNX Runtime.

    python onnx_server.py segfusion.onnx PORT

Answers POST /v1/predictions as `segfusion serve` does, of one image at a time, with probability and mask; GET /readyz.
"""

import base64
import io
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
app = FastAPI()


@app.get("/readyz")
def ready() -> str:
    """Says that it answers."""
    return "ready"


@app.post("/v1/predictions")
def predictions(images: list[UploadFile]) -> dict:  # FastAPI runs it in one of forty threads
    """Returns what the model says of the images of a request."""
    return {"predictions": [_predicted(upload.file.read()) for upload in images]}


def _predicted(content: bytes) -> dict:
    image = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    outputs = dict(zip(names, session.run(None, {"images": image[None]}), strict=True))
    mask = io.BytesIO()
    Image.fromarray(np.uint8(255 * (outputs["mask"][0] >= 0.5))).save(mask, "PNG", compress_level=1)
    return {
        "probability": float(outputs["malignant"][0]),
        "probabilities": outputs["probabilities"][0].tolist(),
        "novelty": float(outputs["novelty"][0]),
        "mask": base64.b64encode(mask.getvalue()).decode("ascii"),
    }


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)

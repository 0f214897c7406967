"""The paths of the server."""

import contextlib
import dataclasses
import importlib.resources
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import segfusion_jax
from segfusion_jax.serving.facts import OWN, USE, Facts
from segfusion_jax.serving.web import answers, problems, schema, uploads
from segfusion_jax.serving.web.device import Predict
from segfusion_jax.serving.web.guard import Guard
from segfusion_jax.serving.web.limits import Limits
from segfusion_jax.serving.web.metrics import Metrics
from segfusion_jax.serving.web.problems import Problem
from segfusion_jax.serving.web.service import Service

OPENAPI = "/v1/openapi.json"
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/cards.js": ("cards.js", "text/javascript; charset=utf-8"),
    "/numbers.js": ("numbers.js", "text/javascript; charset=utf-8"),
    "/predictor.js": ("server/predictor.js", "text/javascript; charset=utf-8"),
}
"""Paths of the page: their files in the package, and their types."""

_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [uploads.FIELD],
                "properties": {uploads.FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        }
    },
}
_REFUSALS = {
    400: "The connection was closed, or the request is none.",
    401: "The token is missing or wrong.",
    403: "The request comes from another page.",
    408: "The body did not arrive in time.",
    411: "The length of the body is not stated.",
    413: "The body, an image or the number of images is too large.",
    415: "The body is no multipart/form-data.",
    421: "The header Host does not name this server.",
    422: "A file is no image that can be used, or an option is none.",
    429: "Too many images are under way. Retry-After says when to ask again.",
    500: "The server failed.",
    503: "There was no answer in time. Retry-After says when to ask again.",
}


def make_app(predict: Predict, facts: Facts, limits: Limits, *, hosts: Sequence[str] = (), token: str = "") -> ASGIApp:
    """Returns the server of a model.

    Args:
      predict: what predicts, at the model's own prevalence.
      facts: about the model.
      limits: what is taken on.
      hosts: as `Guard` takes them.
      token: likewise.
    """
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(predict, facts, limits, metrics)
        try:
            yield
        finally:
            app.state.service.close()

    app = FastAPI(
        title="segfusion",
        version=segfusion_jax.__version__,
        description=f"Segments and classifies dermoscopic images of skin lesions. {USE}",
        openapi_url=OPENAPI,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    _add_predictions(app, facts)
    _add_model(app, facts, limits)
    _add_state(app, metrics)
    _add_page(app)
    _add_problems(app)
    paths = (OPENAPI, *PAGE, "/v1/predictions", "/v1/model", "/healthz", "/readyz", "/metrics")
    return Guard(app, hosts=hosts, token=token, open_paths=set(PAGE), paths=set(paths), metrics=metrics)


def _add_predictions(app: FastAPI, facts: Facts) -> None:
    @app.post(
        "/v1/predictions",
        summary="What the model says of one or many images",
        response_model=schema.Predictions,
        responses=_refusals(*_REFUSALS),
        openapi_extra={"requestBody": _BODY},
    )
    async def predictions(
        request: Request,
        operating_point: Annotated[str, Query(description="By which is decided; /v1/model lists them.")] = OWN,
        prevalence: Annotated[
            float | None, Query(gt=0, lt=1, description="Share of malignant images; changes probabilities only.")
        ] = None,
        mask: Annotated[schema.MaskFormat, Query(description="In which format masks are sent.")] = "png",
        pictures: Annotated[bool, Query(description="Whether pictures are sent: slower.")] = False,
    ) -> Response:
        if prevalence is not None and facts.prevalence is None:
            raise Problem(422, f"prevalence = {prevalence}: none of this model's classes is looked for.", "None.")
        if operating_point not in facts.points and (facts.points or operating_point != OWN):
            accepted = f"One of {', '.join(facts.points)}."
            raise Problem(422, f"operating_point = {operating_point[:100]!r} is none of this model's.", accepted)
        asked = answers.Asked(facts.points.get(operating_point), prevalence, mask, pictures)
        said = await app.state.service.answer(request, asked)
        return Response(said.model_dump_json(), media_type="application/json")


def _add_model(app: FastAPI, facts: Facts, limits: Limits) -> None:
    model = schema.Model(**facts.told(), limits=schema.Accepted(**dataclasses.asdict(limits)))

    @app.get("/v1/model", summary="What is served, and what is accepted", responses=_refusals(401, 403, 421))
    async def described() -> schema.Model:
        return model


def _add_state(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Whether the process answers", response_class=PlainTextResponse)
    async def health() -> str:
        return "ok\n"

    @app.get(
        "/readyz",
        summary="Whether the model can predict",
        response_class=PlainTextResponse,
        responses={503: {"model": schema.ProblemDetails, "description": "Its programs are being compiled."}},
    )
    async def ready() -> str:
        if not app.state.service.is_ready:
            raise Problem(503, "The model is being made ready.", retry_after=5)
        return "ready\n"

    @app.get("/metrics", summary="Counts, for Prometheus", response_class=PlainTextResponse)
    async def counts() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    folder = importlib.resources.files("segfusion_jax.serving") / "page"
    for path, (name, kind) in PAGE.items():
        app.add_route(path, _static((folder / name).read_bytes(), kind), methods=["GET"])


def _static(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(content, headers={"Content-Type": kind})

    return answer


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def refused(_: Request, problem: Problem) -> Response:
        return problem.response()

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        told = {404: "There is nothing under this path.", 405: "This path does not answer this method."}
        response = Problem(error.status_code, told.get(error.status_code, str(error.detail))).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:  # which `Guard` logs
        return Problem(500, "The server failed at this request.").response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        wrong = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return Problem(422, f"Options that are none: {'; '.join(wrong)}.", f"What {OPENAPI} says.").response()


def _refusals(*statuses: int) -> dict[int | str, dict]:
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in statuses}

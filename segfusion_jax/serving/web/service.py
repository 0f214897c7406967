"""What happens to a request for predictions between its arrival and its answer."""

import asyncio
import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect, Request

from segfusion_jax.datasets import images
from segfusion_jax.datasets.files import MemoryFile
from segfusion_jax.serving.facts import Facts
from segfusion_jax.serving.web import answers, problems, schema, uploads
from segfusion_jax.serving.web.device import Device, Predict
from segfusion_jax.serving.web.limits import Budget, Limits
from segfusion_jax.serving.web.metrics import Metrics
from segfusion_jax.serving.web.problems import Problem

_FORMATS = "JPEG, PNG, BMP, TIFF, WebP, HEIC or DICOM"
_OVERSIZED = "oversized"  # how `datasets.images` begins what it says of an image that is too large


class Service:
    """A model that answers requests, as many as its limits allow. To be made where an event loop runs.

    Args:
      predict: what predicts, at the model's own prevalence.
      facts: about the model.
      limits: what is taken on.
      metrics: is told of what is done.
    """

    def __init__(self, predict: Predict, facts: Facts, limits: Limits, metrics: Metrics):
        self.facts, self.limits, self.metrics = facts, limits, metrics
        self._device = Device(predict, metrics.batch)
        self._workers = concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1), "images")
        self._bytes, self._pixels = Budget(limits.bytes), Budget(limits.pixels)

    @property
    def is_ready(self) -> bool:
        """Whether the device has its programs."""
        return self._device.ready.is_set()

    def close(self) -> None:
        """Ends the threads."""
        self._device.close()
        self._workers.shutdown(cancel_futures=True)

    async def answer(self, request: Request, asked: answers.Asked) -> schema.Predictions:
        """Returns what the model says of the images of a request.

        Raises:
          Problem: the request cannot be answered.
        """
        with self._admitted(1):
            parting = uploads.boundary(request.headers.get("content-type", ""))
            length = uploads.length(request.headers.get("content-length"), self.limits)
            is_arriving = False
            try:
                async with asyncio.timeout(self.limits.seconds), self._bytes.taken(length):
                    is_arriving = True
                    files = await uploads.read(request.stream(), parting, self.limits)
                    is_arriving = False
                    with self._admitted(len(files) - 1):
                        return await self._answered(files, asked)
            except TimeoutError:
                if is_arriving:
                    accepted = f"A body that arrives within {self.limits.seconds:g} s."
                    raise Problem(408, "The body did not arrive in time.", accepted) from None
                raise problems.late(self.limits.seconds) from None
            except ClientDisconnect:
                raise Problem(400, "The connection was closed before the body had arrived.") from None

    @contextlib.contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        if self.metrics.under_way + count > self.limits.queue:
            raise problems.busy(self.limits.queue)
        self.metrics.under_way += count  # by the event loop's thread only
        try:
            yield
        finally:
            self.metrics.under_way -= count

    async def _answered(self, files: Sequence[MemoryFile], asked: answers.Asked) -> schema.Predictions:
        tasks = (self._predicted(file, asked) for file in files)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, Problem):
                raise one
        wrong = {number: one for number, one in enumerate(found) if isinstance(one, Problem)}
        if wrong:
            raise self._together(files, wrong)
        predictions = [one for one in found if isinstance(one, schema.Prediction)]
        return schema.Predictions(model=self.facts.digest, predictions=predictions)

    async def _predicted(self, file: MemoryFile, asked: answers.Asked) -> schema.Prediction:
        self._check_pixels(pixels := await self._work(images.declared_pixels, file.content))
        async with self._pixels.taken(pixels):
            image = await self._decoded(file)
            try:
                said = await asyncio.wrap_future(self._device.submit(image, explain=asked.pictures))
            except (asyncio.CancelledError, TimeoutError):
                raise
            except Exception as error:  # the device has said which in the log
                raise Problem(500, f"the image cannot be predicted ({type(error).__name__})") from error
            return await self._work(answers.answer, file.name, image, said, self.facts, asked)

    async def _decoded(self, file: MemoryFile) -> np.ndarray:
        try:
            image = await self._work(images.read, file)
        except ValueError as error:
            raise Problem(413 if str(error).startswith(_OVERSIZED) else 422, str(error)) from error
        except MemoryError:
            raise Problem(503, "there is not enough memory to read the image", retry_after=5) from None
        self._check_pixels(image.shape[0] * image.shape[1])
        return image

    def _check_pixels(self, pixels: int) -> None:
        if pixels > self.limits.pixels:
            raise Problem(413, f"oversized image: {pixels:,} pixels")

    async def _work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)

    def _together(self, files: Sequence[MemoryFile], wrong: dict[int, Problem]) -> Problem:
        """Returns one problem for those of some files."""
        statuses = {problem.status for problem in wrong.values()}
        return Problem(
            statuses.pop() if len(statuses) == 1 else max(statuses & {500, 503} or {422}),
            f"{len(wrong)} of {len(files)} images cannot be used, so nothing is said of any.",
            f"{_FORMATS}, of at most {self.limits.pixels:,} pixels.",
            files=[{"file": files[number].name, "detail": problem.detail} for number, problem in wrong.items()],
            retry_after=max((problem.retry_after or 0 for problem in wrong.values()), default=0) or None,
        )

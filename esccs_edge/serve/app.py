"""The addresses of the service: FastAPI around a `Service`, with one form for every error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, BinaryIO

from fastapi import FastAPI, File, Query, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from .. import __version__
from ..contracts.tasks.scene_classification import SceneClassification
from ..errors import (
    ClosedError,
    DeadlineExceeded,
    EsccsError,
    InputError,
    Overloaded,
    RasterError,
    error_document,
)
from .documents import (
    ModelDocument,
    PredictionDocument,
    SceneDocument,
    SegmentationDocument,
    scene_document,
    segmentation_document,
)
from .gatekeeper import Gatekeeper
from .metrics import BACKEND, CANCELED, CONTENT_TYPE, OTHER, REJECTED
from .page import PAGE, PAGE_POLICY
from .scenes import MAP, SCORES
from .service import Service

Upload = Annotated[UploadFile | None, File(description="GeoTIFF, PNG or .npy")]
#: HTTP status of each error; others are faults of the service.
_STATUS: tuple[tuple[type[EsccsError], int, str], ...] = (
    (Overloaded, 429, REJECTED),
    (DeadlineExceeded, 504, REJECTED),
    (ClosedError, 503, CANCELED),
    (InputError, 422, OTHER),
    (RasterError, 422, OTHER),
    (EsccsError, 500, BACKEND),
)


def make_app(service: Service, hosts: tuple[str, ...] = ("*",)) -> Gatekeeper:
    """Return the ASGI application of a service, whose end closes the service.

    Args:
        service: What answers.
        hosts: Names under which it may be asked; ``"*"``: any.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="esccs-edge",
        version=__version__,
        description="Classifies and maps cloudy satellite images, from optical and SAR together.",
        lifespan=lifespan,
        docs_url=None,  # it would fetch its scripts from elsewhere
        redoc_url=None,
    )
    routes = _Routes(service)
    refusals: dict[int | str, Any] = {
        code: {"description": words}
        for code, words in (
            (408, "The upload took too long"), (413, "Too large"), (422, "Not to be judged"),
            (429, "Too many requests"), (503, "The service ends"), (504, "Past the deadline"),
        )
    }  # fmt: skip
    add = app.add_api_route
    add("/", routes.page, response_class=HTMLResponse, include_in_schema=False)
    add("/example/{modality}.npy", routes.example, include_in_schema=False)
    add("/healthz", routes.healthz, summary="The process answers")
    add("/readyz", routes.readyz, summary="The model answers its golden patch as at the start",
        responses={503: {"description": "It does not, or the service ends"}})  # fmt: skip
    add("/metrics", routes.metrics, summary="Counts for Prometheus", response_class=Response)
    add("/v1/model", routes.model, response_model=ModelDocument, summary="What the model takes")
    if service.manifest.task == SceneClassification.name:
        add("/v1/classify", routes.classify, methods=["POST"], responses=refusals,
            response_model=PredictionDocument, summary="The class of a pair")  # fmt: skip
    else:
        add("/v1/segment", routes.segment, methods=["POST"], responses=refusals,
            response_model=SegmentationDocument, summary="The class of every pixel")  # fmt: skip
    unknown: dict[int | str, Any] = {404: {"description": "No such scene, or not any more"}}
    add("/v1/scenes", routes.add_scene, methods=["POST"], status_code=202, responses=refusals,
        response_model=SceneDocument, summary="Map a scene")  # fmt: skip
    add("/v1/scenes/{scene}", routes.scene, response_model=SceneDocument, responses=unknown,
        summary="How far a scene is")  # fmt: skip
    add("/v1/scenes/{scene}", routes.remove_scene, methods=["DELETE"], status_code=204,
        responses=unknown, summary="End a scene and remove its map")  # fmt: skip
    add("/v1/scenes/{scene}/{file}", routes.scene_file, response_class=FileResponse,
        responses=unknown, summary=f"{MAP} or {SCORES} of a finished scene")  # fmt: skip
    app.add_exception_handler(EsccsError, _told)
    app.add_exception_handler(RequestValidationError, _told_as_usage)
    app.add_exception_handler(HTTPException, _told_as_http)
    app.add_exception_handler(Exception, _told_as_fault)
    keeper = Gatekeeper(app, service.limits, service.metrics, hosts)
    routes.keeper = keeper
    return keeper


class _Routes:
    """The answers, one method per address."""

    keeper: Gatekeeper

    def __init__(self, service: Service) -> None:
        self._service = service

    async def page(self) -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"content-security-policy": PAGE_POLICY})

    async def example(self, modality: str) -> Response:
        pixels = self._service.example(modality)
        if pixels is None:
            raise HTTPException(404, "the packaged pair is not for this model")
        return Response(pixels, media_type="application/octet-stream")

    async def healthz(self) -> dict[str, str]:
        return {"status": "ok"}

    async def readyz(self) -> JSONResponse:
        if self.keeper.draining:
            problem: str | None = "the service ends"
        else:
            problem = await asyncio.to_thread(self._service.problem)
        if problem is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse(error_document("not-ready", problem), 503)

    async def metrics(self) -> Response:
        service = self._service
        name = service.manifest.name
        text = service.metrics.text(name, service.model.stats(), service.scenes.counts())
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def model(self) -> ModelDocument:
        return self._service.describe()

    async def classify(
        self,
        optical: Upload = None,
        sar: Upload = None,
        deadline_ms: Annotated[float | None, Query(gt=0, le=600_000)] = None,
    ) -> Any:
        answer = await self._answer(optical, sar, deadline_ms)
        return answer.to_dict()

    async def segment(
        self,
        optical: Upload = None,
        sar: Upload = None,
        deadline_ms: Annotated[float | None, Query(gt=0, le=600_000)] = None,
    ) -> Any:
        answer = await self._answer(optical, sar, deadline_ms)
        return segmentation_document(answer)

    async def add_scene(self, optical: Upload = None, sar: Upload = None) -> SceneDocument:
        files = (_file(optical), _file(sar))
        job = await asyncio.to_thread(self._service.add_scene, *files)
        return scene_document(job)

    async def scene(self, scene: str) -> SceneDocument:
        return scene_document(self._job(scene))

    async def remove_scene(self, scene: str) -> Response:
        await asyncio.to_thread(self._service.scenes.cancel, self._job(scene))
        return Response(status_code=204)

    async def scene_file(self, scene: str, file: str) -> FileResponse:
        job = self._job(scene)
        if file not in (MAP, SCORES) or job.state != "done":
            raise HTTPException(404, f"no {file} of this scene; its state is {job.state}")
        return FileResponse(job.folder / file, media_type="image/tiff", filename=file)

    def _job(self, name: str) -> Any:
        job = self._service.scenes.get(name)
        if job is None:
            raise HTTPException(404, "no scene of this id, or not any more")
        return job

    async def _answer(
        self, optical: UploadFile | None, sar: UploadFile | None, deadline_ms: float | None
    ) -> Any:
        started_s, service = time.monotonic(), self._service
        files = (_file(optical), _file(sar))
        latest = service.limits.deadline_ms if deadline_ms is None else deadline_ms
        try:
            asked = await asyncio.wrap_future(service.answer(*files, latest))
            answer = await asyncio.wrap_future(asked)
        except EsccsError as error:
            service.metrics.failed(_status_of(error)[1])
            raise
        except Exception:
            service.metrics.failed(OTHER)
            raise
        service.metrics.succeeded(time.monotonic() - started_s)
        return answer


def _file(upload: UploadFile | None) -> BinaryIO | None:
    return None if upload is None else upload.file


def _status_of(error: EsccsError) -> tuple[int, str]:
    return next((status, why) for kind, status, why in _STATUS if isinstance(error, kind))


async def _told(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EsccsError)
    status, _why = _status_of(error)
    headers = {"retry-after": "1"} if status in (429, 503) else None
    document = error_document(error.code, error.message, error.hint)
    return JSONResponse(document, status, headers)


async def _told_as_usage(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    parts = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
    return JSONResponse(error_document("usage", "; ".join(parts)), 422)


async def _told_as_fault(_: Request, error: Exception) -> JSONResponse:
    """The traceback goes to the log alone."""
    return JSONResponse(error_document("fault", type(error).__name__), 500)


async def _told_as_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = "usage" if error.status_code < 500 else "fault"
    return JSONResponse(error_document(code, str(error.detail)), error.status_code, error.headers)

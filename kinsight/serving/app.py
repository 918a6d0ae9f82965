"""The REST application: the same paths for programs and for the page.

POST /v1/embed            an image -> its vector
POST /v1/predict?top_k=   an image -> its class or labels; /api/predict/NAME answers the same, without times
POST /v1/search?k=&by=&where=&recall=    an image, or JSON {"vector": [...]} or {"row": n} or {"id": ...} -> the nearest
GET  /v1/items/N/picture  an item's picture, small (row N of the index)
GET  /v1/info             what is served
GET  /healthz             200 once it answers
GET  /                    the page: searching, or, of a classifier without an index, predicting
GET  /predict             the page of a classifier

An image is sent as the body, as it is (`curl --data-binary @x.jpg`). Errors are JSON: code, message, field, remedy.
"""

import json
import time
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from kinsight import __version__
from kinsight.data.thumbnails import encoded, thumbnail
from kinsight.errors import SpecError
from kinsight.evaluation.decision import Decision
from kinsight.indexing import Index
from kinsight.serving.bodies import Bodies
from kinsight.serving.engine import By, Clock, Engine, NoSuchItem, items, live_row, row_of_id
from kinsight.serving.faults import add_faults
from kinsight.serving.page import add_page
from kinsight.serving.predictions import add_predictions
from kinsight.serving.requests import kind_of, refuse_unknown_words, refuse_unwanted

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PICTURE_SIDES = (96, 192, 384, 768)  # few, so that browsers and caches see the same pictures again


def create_app(engine: Engine) -> FastAPI:
    """The application around a loaded engine."""
    app = FastAPI(
        title="Kinsight",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(refuse_unknown_words)],
    )
    add_faults(app)
    if engine.spec.host in _LOOPBACK:  # else a page elsewhere could reach it under a name of its own
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, "[::1]"])
    bodies = Bodies(int(engine.spec.max_upload_mb * 1e6))

    @app.post("/v1/embed")
    async def embed(request: Request) -> dict[str, Any]:
        refuse_unwanted(request)
        async with bodies.read(request) as data:
            return await run_in_threadpool(_embed, engine, data)

    @app.post("/v1/search")
    async def search(
        request: Request,
        k: int | None = None,
        by: By | None = None,
        where: Annotated[list[str] | None, Query()] = None,
        recall: Annotated[float | None, Query(gt=0, lt=1)] = None,
    ) -> dict[str, Any]:
        refuse_unwanted(request)
        is_json = kind_of(request) == "application/json"
        async with bodies.read(request) as data:
            return await run_in_threadpool(_search, engine, data, is_json, k, by, where or [], recall)

    @app.get("/v1/items/{row}/picture")
    def picture(row: int, side: int = 192, version: int | None = None) -> Response:
        return _picture(engine, row, side, version)

    @app.get("/v1/info")
    def info() -> dict[str, Any]:
        return describe(engine)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    add_predictions(app, engine, bodies)
    add_page(app, searches=engine.index is not None, predicts=engine.model.decision is not None)
    return app


def describe(engine: Engine) -> dict[str, Any]:
    """What is served, for programs and for the page."""
    index, model = engine.index, engine.model
    return {
        "kinsight": __version__,
        "model": {"name": model.name, "hash": model.content_hash, "dim": model.embedding_dim},
        "task": model.decision.task if model.decision is not None else "metric",
        "classifier": _classifier(model.decision),
        "image": {"size": model.image.image_size, "color": model.image.color},
        "index": None
        if index is None
        else {"items": len(index), "kind": index.kind, "metric": index.metric, "version": index.version}
        | {"classes": len(index.label_sizes())},
        "threshold": {
            "value": engine.limit.threshold,
            "fmr": engine.limit.fmr,
            "source": engine.limit.source,
            "chance_matches": engine.chance_matches,
        },
        "k": engine.spec.k,
        "by": engine.by(index) if index is not None else None,
        "prefer": engine.preference and {"column": engine.preference.column, "by": engine.preference.by},
        "max_upload_bytes": int(engine.spec.max_upload_mb * 1e6),
    }


def _classifier(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "task": decision.task,
        "names": list(decision.class_names),
        "thresholds": None if decision.threshold_C is None else decision.threshold_C.tolist(),
        "temperature": decision.temperature,
    }


def _embed(engine: Engine, data: bytes) -> dict[str, Any]:
    clock = Clock()
    vector_D = engine.embed(data, clock)
    return {"vector": vector_D.tolist(), "model": engine.model.content_hash, "took_ms": clock.took_ms}


def _search(
    engine: Engine, data: bytes, is_json: bool, k: int | None, by: By | None, where: list[str], recall: float | None
) -> dict[str, Any]:
    started, clock = time.perf_counter(), Clock()
    index, own_row = engine.need_index(), None
    if is_json:
        vector_D, own_row = _query(engine, index, data)
    else:
        vector_D = engine.embed(data, clock)
    wanted = k if k is not None else engine.spec.k
    found = engine.search(vector_D, wanted, clock, index=index, own_row=own_row, by=by, where=where, recall=recall)
    if own_row is not None:
        found["query"] = {"row": own_row} | items(index, [own_row])[0]
    total_ms = round(1000 * (time.perf_counter() - started), 2)
    return found | {"threshold": engine.limit.threshold, "took_ms": clock.took_ms | {"total": total_ms}}


def _query(engine: Engine, index: Index, data: bytes) -> tuple[np.ndarray, int | None]:
    """A vector out of a JSON body, and the item it belongs to."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SpecError("serve.json", f"the body is not JSON: {error}", remedy='send {"row": 0}') from None
    names = [name for name in ("vector", "row", "id") if isinstance(given, dict) and name in given]
    if others := sorted(set(given) - set(names)) if isinstance(given, dict) else []:
        hint = "k goes into the address: /v1/search?k=5" if "k" in others else 'send {"row": 0}, or an image'
        raise SpecError("serve.query", "expected one of vector, row, id and nothing else", field=others[0], remedy=hint)
    if len(names) != 1:
        raise SpecError("serve.query", "expected one of vector, row, id", remedy='send {"row": 0}, or an image')
    value = given[names[0]]
    match names[0]:
        case "vector":
            return _vector(value, engine.model.embedding_dim), None
        case "row":
            row = live_row(index, value if isinstance(value, int) and not isinstance(value, bool) else -1)
        case _:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise SpecError("serve.query", f"{value!r}: expected text or a whole number", field="id")
            row = row_of_id(index, value)
    return index.vectors([row])[0].numpy(), row


def _vector(value: Any, dim: int) -> np.ndarray:
    flat = isinstance(value, list) and all(isinstance(number, int | float) for number in value)
    try:
        vector_D = np.array(value if flat else [], np.float32)
    except OverflowError:
        vector_D = np.empty(0, np.float32)
    if vector_D.shape != (dim,) or not np.isfinite(vector_D).all() or not vector_D.any():
        raise SpecError(
            "serve.vector", f"expected {dim} finite numbers, not all zero", field="vector", remedy="take /v1/embed's"
        )
    return vector_D


def _picture(engine: Engine, row: int, side: int, version: int | None) -> Response:
    index = engine.need_index()
    if version is not None and version != index.version:
        raise NoSuchItem("serve.other-version", f"the index is at version {index.version} now", field="version")
    wanted = next((size for size in _PICTURE_SIDES if size >= side), _PICTURE_SIDES[-1])
    data, kind = encoded(thumbnail(index.items([live_row(index, row)])["uri"][0].as_py(), wanted))
    return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

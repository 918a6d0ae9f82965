"""Predictions over REST: an image in, its class or labels out.

POST /v1/predict?top_k=          with the time it took
POST /api/predict[/NAME]?top_k=  the answer alone, as lines of `kinsight predict` have it; NAME, which tells services of
                                 a gateway apart, may be any: this server has one model

The body is the image as it is, or JSON: {"image": "<base64>"}.
"""

import base64
import binascii
import json
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool

from kinsight.errors import SpecError
from kinsight.serving.bodies import Bodies
from kinsight.serving.engine import Clock, Engine
from kinsight.serving.requests import kind_of, refuse_unwanted

_REMEDY = 'send {"image": "<base64>"}, or the image as it is, without Content-Type: application/json'
_Top = Annotated[int | None, Query(ge=1)]


def add_predictions(app: FastAPI, engine: Engine, bodies: Bodies) -> None:
    """The paths of predictions; without a classifier they say that there is none."""

    @app.post("/v1/predict")
    async def predict(request: Request, top_k: _Top = None) -> dict[str, Any]:
        clock = Clock()
        answer = await answered(request, top_k, clock)
        return answer | {"model": engine.model.content_hash, "took_ms": clock.took_ms}

    @app.post("/api/predict")
    @app.post("/api/predict/{name}")
    async def predict_plainly(request: Request, top_k: _Top = None) -> dict[str, Any]:
        return await answered(request, top_k, Clock())

    async def answered(request: Request, top_k: int | None, clock: Clock) -> dict[str, Any]:
        refuse_unwanted(request)
        engine.model.need_decision()  # before anything is read
        async with bodies.read(request) as data:
            image = _unwrapped(data) if kind_of(request) == "application/json" else data
            return await run_in_threadpool(engine.predict, image, clock, top_k)


def _unwrapped(data: bytes) -> bytes:
    """The image in a JSON body. Raises SpecError."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SpecError("serve.json", f"the body is not JSON: {error}", remedy=_REMEDY) from None
    text = given.get("image") if isinstance(given, dict) and set(given) == {"image"} else None
    if not isinstance(text, str):
        raise SpecError(
            "serve.query",
            'expected {"image": "<base64>"} and nothing else',
            remedy="or send the image's bytes as the body",
        )
    try:
        return base64.b64decode(text.rpartition("base64,")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise SpecError(
            "serve.base64",
            f"no base64: {error}",
            field="image",
            remedy="encode the image's bytes by RFC 4648, on one line, or send them as the body as they are",
        ) from None

"""Errors as answers: JSON with code, message, field and remedy, and the status that fits."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kinsight.errors import DataError, KinsightError, SpecError, StorageError
from kinsight.serving.embedder import Overloaded
from kinsight.serving.engine import NoSuchItem, TooLarge
from kinsight.serving.requests import OtherForm, OtherSite

_STATUS: list[tuple[type[KinsightError], int]] = [
    (TooLarge, 413), (NoSuchItem, 404), (Overloaded, 503), (OtherSite, 403), (OtherForm, 415), (SpecError, 400),
    (DataError, 422), (StorageError, 502),
]  # fmt: skip
_BOUNDS = {"ge": "at least", "gt": "more than", "lt": "less than", "le": "at most"}
_KINDS = {"int_parsing": "a whole number", "int_from_float": "a whole number", "float_parsing": "a number"}


def add_faults(app: FastAPI) -> None:
    """Whatever goes wrong is told in the same form."""
    app.add_exception_handler(KinsightError, _failed)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(HTTPException, _unserved)


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, KinsightError)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return _answer(status, error.code, error.message, error.field, error.remedy)


def _misread(request: Request, error: Exception) -> Response:
    """A parameter of the address that is not what it must be."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return _answer(400, "serve.parameter", f"{first.get('input')!r}: {first['msg']}", name, _remedy(first))


def _remedy(fault: dict[str, Any]) -> str:
    limits = fault.get("ctx", {})
    wanted = [f"{words} {limits[key]}" for key, words in _BOUNDS.items() if key in limits]
    wanted += [_KINDS[fault["type"]]] if fault["type"] in _KINDS else []
    wanted += [limits["expected"]] if "expected" in limits else []
    return f"give {' and '.join(wanted)}" if wanted else "give another value, or leave it out"


def _unserved(request: Request, error: Exception) -> Response:
    """An address or a method that nothing answers to."""
    assert isinstance(error, HTTPException)
    remedy = "GET /openapi.json lists what is answered" if error.status_code in (404, 405) else None
    return _answer(error.status_code, "serve.address", str(error.detail), request.url.path, remedy)


def _answer(status: int, code: str, message: str, field: str | None, remedy: str | None) -> Response:
    content = {"code": code, "message": message, "field": field, "remedy": remedy}
    return JSONResponse(content, status, {"Retry-After": "1"} if status == 503 else None)

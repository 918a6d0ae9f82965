"""The pages for searching and for predicting: a few static files, no build step, nothing from elsewhere."""

from functools import cache
from importlib import resources

from fastapi import FastAPI, Response

_FILES = {
    "search.html": "text/html",
    "predict.html": "text/html",
    "search.css": "text/css",
    "image.js": "text/javascript",
    "search.js": "text/javascript",
    "predict.js": "text/javascript",
}
_HEADERS = {
    # Names of classes and files come from users: whatever they hold, the page loads and runs only what is its own.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI, *, searches: bool, predicts: bool) -> None:
    """Serve the pages and their files below `/static/`. Predicting stands at `/predict`, and at `/`, too, where there
    is nothing to search in.
    """

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return _answer("predict.html" if predicts and not searches else "search.html")

    if predicts:

        @app.get("/predict", include_in_schema=False)
        def predict_page() -> Response:
            return _answer("predict.html")

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        return _answer(name) if name in _FILES else Response(status_code=404)

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> Response:
        return Response(status_code=204)


def _answer(name: str) -> Response:
    return Response(_text(name), media_type=_FILES[name], headers=_HEADERS)


@cache
def _text(name: str) -> str:
    return resources.files("kinsight.serving").joinpath("static", name).read_text(encoding="utf-8")

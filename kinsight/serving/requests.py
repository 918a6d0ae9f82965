"""What every request that sends an image has in common."""

import difflib

from fastapi import Request
from fastapi.routing import APIRoute

from kinsight.errors import KinsightError, SpecError


class OtherSite(KinsightError):
    """A page of another site asks through its visitor's browser."""


class OtherForm(KinsightError):
    """An image in a wrapping that is not read."""


def kind_of(request: Request) -> str:
    """The media type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refuse_unwanted(request: Request) -> None:
    """Raises OtherForm, OtherSite."""
    if kind_of(request) == "multipart/form-data":
        raise OtherForm(
            "serve.form",
            "the body is a form (multipart/form-data)",
            remedy="send the image's bytes as the body: curl --data-binary @picture.jpg, or fetch(url, {body: file})",
        )
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise OtherSite("serve.other-site", "pages of other sites may not search here")


def refuse_unknown_words(request: Request) -> None:
    """Raises SpecError for a parameter of the address that its path does not take. Pages take any."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            taken = f"it takes {', '.join(known)}" if known else "it takes none"
            raise SpecError(
                "serve.parameter",
                f"{request.url.path} has no such parameter; {taken}",
                field=name,
                remedy=f"did you mean {near[0]}?" if near else "leave it out",
            )

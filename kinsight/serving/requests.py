"""What every request that sends an image has in common."""

from fastapi import Request

from kinsight.errors import KinsightError


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

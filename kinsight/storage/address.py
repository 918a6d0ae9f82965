"""What an address means: a local path, `file://`, `s3://`, `oss://` or `http(s)://`, parsed once.

Keys of `s3://` and `oss://` are taken literally (`%`, `#`, `?`, `+`, spaces are part of the name); `file://` and
`http(s)://` are URLs, so those are percent-encoded there.
"""

import difflib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self, cast
from urllib.parse import quote, unquote

from kinsight.errors import SpecError

Scheme = Literal["file", "s3", "oss", "http", "https"]
SCHEMES: tuple[Scheme, ...] = ("file", "s3", "oss", "http", "https")

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://")
_HALF_SCHEME = re.compile(r"^(file|s3|oss|https?):", re.IGNORECASE)
_OSS_BUCKET = re.compile(r"^[a-z0-9][a-z0-9-]*$")
_URL_SAFE = "/:@!$&'()*+,;=~%-._"  # kept as they stand in the path of a URL; the rest is percent-encoded


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """One file or directory, local or remote. `str()` is for people and hides secrets; `uri` is complete.

    container: bucket, or `host[:port]` of a URL; empty for local paths.
    path: local path; object key (literal); or the percent-encoded path of a URL, without its leading slash.
    endpoint: `host[:port]` that an `oss://bucket.host/key` address names; else empty.
    query: of a URL, without `?`; may hold a signature, hence never shown.
    """

    scheme: Scheme
    container: str
    path: str
    endpoint: str = ""
    query: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: "str | os.PathLike[str] | Address") -> "Address":
        """The address that a user wrote. Raises SpecError for an unknown scheme or an incomplete address."""
        if isinstance(text, Address):
            return text
        text = os.fspath(text)
        if not text.strip() or "\0" in text:
            raise SpecError("spec.address", f"{text!r} is not an address", remedy="give a path or a URL")
        found = _SCHEME.match(text)
        if found is None:
            return _parse_plain(text)
        scheme, rest = found[1].lower(), text[found.end() :]
        match scheme:
            case "file":
                return _parse_file_url(text, rest)
            case "s3":
                bucket, _, key = rest.partition("/")
                return cls("s3", _named(bucket, text, "bucket"), key)
            case "oss":
                return _parse_oss(text, rest)
            case "http" | "https":
                return _parse_http(cast(Scheme, scheme), text, rest)
            case _:
                raise _unknown_scheme(scheme, text)

    @property
    def is_local(self) -> bool:
        return self.scheme == "file"

    @property
    def local_path(self) -> Path:
        """The path of a local address; asking a remote one is a mistake of the caller."""
        assert self.is_local, self
        return Path(self.path)

    @property
    def uri(self) -> str:
        """The complete address; `Address.parse(a.uri) == a`. May hold a signature: not for logs."""
        query = f"?{self.query}" if self.query else ""
        return self._text(self.container) + query

    @property
    def name(self) -> str:
        """Last segment, decoded; of a bucket or host, its name."""
        last = self.path.rstrip("/").rpartition("/")[2]
        if self.scheme in ("http", "https"):
            last = unquote(last)
        return last or self.container

    @property
    def parent(self) -> Self:
        """The directory that holds this; a bucket's or the root's parent is itself."""
        if self.is_local:
            return replace(self, path=str(Path(self.path).parent))
        return replace(self, path=self.path.rstrip("/").rpartition("/")[0], query="")

    def child(self, relative: str) -> Self:
        """The address of `relative` (as a listing gives it) below this directory, taken literally."""
        if self.is_local:
            return replace(self, path=os.path.join(self.path, relative))  # noqa: PTH118  Path would fold "a/./b"
        if self.scheme in ("http", "https"):
            relative = quote(relative, safe="/~")
        head = self.path.rstrip("/")
        return replace(self, path=f"{head}/{relative}" if head else relative, query="")

    def join(self, *parts: str) -> Self:
        """Like `child`, with `.` and `..` resolved. Raises SpecError where `..` would leave the bucket or server."""
        if self.is_local:
            return replace(self, path=str(Path(self.path, *parts)))
        joined = self.child("/".join(part.strip("/") for part in parts))
        return replace(joined, path=_without_dots(joined.path, joined))

    def resolve(self, reference: str) -> "Address":
        """What `reference`, found in a list that belongs to this directory, points to: itself if absolute."""
        if _SCHEME.match(reference) or reference.startswith(("/", "~")):
            return Address.parse(reference)
        return self.join(reference)

    def _text(self, container: str) -> str:
        if self.is_local:
            return self.path
        if self.endpoint:
            container = f"{container}.{self.endpoint}"
        return f"{self.scheme}://{container}/{self.path}" if self.path else f"{self.scheme}://{container}"

    def __str__(self) -> str:
        return self._text(self.container.rpartition("@")[2])

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


def _parse_plain(text: str) -> Address:
    if half := _HALF_SCHEME.match(text):
        raise SpecError(
            "spec.address", f"{text!r} lacks the two slashes after {half[0]!r}", remedy=f"write {half[1].lower()}://..."
        )
    try:
        return Address("file", "", str(Path(text).expanduser()))
    except RuntimeError:
        raise SpecError(
            "spec.address", f"{text!r}: there is no such user", remedy="write the home directory out"
        ) from None


def _parse_file_url(text: str, rest: str) -> Address:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise SpecError(
            "spec.address", f"{text!r} names a host, not a local file", remedy="write file:///absolute/path"
        )
    decoded = unquote("/" + path, errors="surrogateescape")
    if "\0" in decoded:
        raise SpecError("spec.address", f"{text!r} holds a zero byte", remedy="give a path or a URL")
    return Address("file", "", str(Path(decoded)))


def _parse_oss(text: str, rest: str) -> Address:
    host, _, key = rest.partition("/")
    bucket, _, endpoint = _named(host, text, "bucket").partition(".")
    if not _OSS_BUCKET.match(bucket):
        raise SpecError(
            "spec.address",
            f"{text!r}: {bucket!r} is not a bucket name (lower-case letters, digits, hyphens)",
            remedy="write oss://bucket/key or oss://bucket.oss-REGION.aliyuncs.com/key",
        )
    return Address("oss", bucket, key, endpoint)


def _parse_http(scheme: Scheme, text: str, rest: str) -> Address:
    rest = rest.partition("#")[0]
    rest, _, query = rest.partition("?")
    host, _, path = rest.partition("/")
    return Address(scheme, _named(host, _before_query(text), "host"), quote(path, safe=_URL_SAFE), "", query)


def _named(container: str, text: str, what: str) -> str:
    if not container:
        raise SpecError("spec.address", f"{text!r} names no {what}", remedy=f"write scheme://{what}/path")
    return container


def _unknown_scheme(scheme: str, text: str) -> SpecError:
    near = difflib.get_close_matches(scheme, SCHEMES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}://? " if near else ""
    known = "local paths, " + ", ".join(f"{known}://" for known in SCHEMES)
    return SpecError(
        "spec.address", f"{_before_query(text)!r}: unknown scheme {scheme}://", remedy=f"{hint}known are {known}"
    )


def _before_query(text: str) -> str:
    """`text` fit for a message: without query and user information, where signatures and passwords stand."""
    return re.sub(r"//[^/@]*@", "//", text.partition("?")[0])


def _without_dots(path: str, address: Address) -> str:
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not kept:
                raise SpecError("spec.address", f"{address}: '..' leaves {address.container}", remedy="mend the path")
            kept.pop()
        elif part != ".":
            kept.append(part)
    return "/".join(kept)

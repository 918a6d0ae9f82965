"""Objects of `s3://` and `oss://` addresses. Each function is one or a few requests, each repeated by `retry`."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kinsight.errors import StorageError
from kinsight.storage.address import Address
from kinsight.storage.endpoints import Endpoint, endpoint_of
from kinsight.storage.local import ASIDE_PREFIX, FileEntry, Stat
from kinsight.storage.remote import connect, run, s3_client
from kinsight.storage.retry import persist
from kinsight.storage.s3_errors import NoObject, PastEnd, translated
from kinsight.storage.sources import PART_BYTES, Progress, Source, byte_range, parallel

_MAX_PARTS = 10_000


def read_object(address: Address, start: int | None, length: int | None) -> tuple[bytes, str]:
    """Bytes [start, start + length) of the object, fewer past its end, and its version. Raises StorageError."""
    if length == 0:
        return b"", _known(address).version
    try:
        return _request(address, _get, address, byte_range(start, length))
    except PastEnd:
        return b"", ""
    except NoObject:
        raise missing(address) from None


def stat_object(address: Address) -> Stat | None:
    """Size and version of the object, or None where there is none under that very key. Raises StorageError."""
    if not address.path:
        return None
    try:
        head = _request(address, _call, "head_object", {"Bucket": address.container, "Key": address.path})
    except NoObject:
        return None
    return Stat(head["ContentLength"], head.get("ETag", "").strip('"'))


def _known(address: Address) -> Stat:
    found = stat_object(address)
    if found is None:
        raise missing(address)
    return found


def write_object(address: Address, source: Source, progress: Progress | None = None) -> None:
    """The object holds `source` afterwards, or what it held before. Raises StorageError."""
    try:
        if source.size <= PART_BYTES:
            _request(address, _call, "put_object", {**_place(address), "Body": source.read(0, source.size)})
            if progress:
                progress(source.size)
            return
        upload_id = _request(address, _call, "create_multipart_upload", _place(address))["UploadId"]
    except NoObject:
        raise no_bucket(address) from None
    try:
        _write_parts(address, source, upload_id, progress)
    except BaseException:
        with suppress(Exception):  # the failure itself matters; an upload left over is not an object
            run(
                _call,
                s3_client(endpoint_of(address)),
                "abort_multipart_upload",
                {**_place(address), "UploadId": upload_id},
            )
        raise


def _write_parts(address: Address, source: Source, upload_id: str, progress: Progress | None) -> None:
    part_bytes = max(PART_BYTES, -(-source.size // _MAX_PARTS))

    def send(number: int) -> dict[str, Any]:
        body = source.read((number - 1) * part_bytes, part_bytes)
        arguments = {**_place(address), "UploadId": upload_id, "PartNumber": number, "Body": body}
        answer = _request(address, _call, "upload_part", arguments)
        if progress:
            progress(len(body))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    parts = parallel(send, range(1, -(-source.size // part_bytes) + 1))
    finish = {**_place(address), "UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
    try:
        _request(address, _call, "complete_multipart_upload", finish)
    except NoObject:
        # The first attempt's answer may have been lost after it took effect; the second then finds no upload.
        found = stat_object(address)
        if found is None or found.size != source.size:
            raise StorageError("storage.failed", f"{address}: the server lost the upload", remedy="try again") from None


def delete_object(address: Address) -> None:
    """Removes the object; none there is fine. Raises StorageError."""
    with suppress(NoObject):
        _request(address, _call, "delete_object", {"Bucket": address.container, "Key": address.path})


def list_objects(address: Address, *, recursive: bool) -> tuple[list[FileEntry], bool]:
    """The objects below `address`, sorted, and whether anything at all (a folder marker, a sub-folder) is there."""
    prefix = directory_prefix(address)
    found: list[FileEntry] = []
    something = not prefix
    for page in _pages(address, prefix, recursive):
        something = something or bool(page.get("CommonPrefixes"))
        for item in page.get("Contents", ()):
            something = True
            relative = item["Key"][len(prefix) :]
            if relative and not relative.endswith("/") and ASIDE_PREFIX not in relative:
                found.append(FileEntry(relative, item["Size"], item.get("ETag", "").strip('"')))
    found.sort()
    return found, something


def list_keys(address: Address) -> list[Address]:
    """The object under that very key, and all below it, folder markers too. Raises StorageError."""
    prefix = directory_prefix(address)
    keys = [item["Key"] for page in _pages(address, prefix, True) for item in page.get("Contents", ())]
    own = [address] if not address.path.endswith("/") and stat_object(address) is not None else []
    return own + [replace(address, path=key) for key in keys]


def any_below(address: Address) -> bool:
    """Whether any object lies below `address` taken as a directory. Raises StorageError."""
    page = next(_pages(address, directory_prefix(address), True, limit=1))
    return bool(page.get("Contents"))


def directory_prefix(address: Address) -> str:
    trimmed = address.path.rstrip("/")
    return f"{trimmed}/" if trimmed else ""


def _pages(address: Address, prefix: str, recursive: bool, limit: int = 1000) -> Iterator[dict[str, Any]]:
    arguments: dict[str, Any] = {"Bucket": address.container, "Prefix": prefix, "MaxKeys": limit}
    if not recursive:
        arguments["Delimiter"] = "/"
    while True:
        try:
            page = _request(address, _call, "list_objects_v2", arguments)
        except NoObject:
            raise no_bucket(address) from None
        yield page
        if not page.get("IsTruncated"):
            return
        arguments["ContinuationToken"] = page["NextContinuationToken"]


def _place(address: Address) -> dict[str, Any]:
    if not address.path or address.path.endswith("/"):
        raise StorageError(
            "storage.is-a-directory", f"{address}: is a directory where a file is needed", remedy="name a file"
        )
    return {"Bucket": address.container, "Key": address.path}


def _request(address: Address, function: Callable[..., Any], *arguments: object) -> Any:
    endpoint = endpoint_of(address)
    client = s3_client(endpoint)  # outside the attempts: the first import takes a second of its own

    def attempt() -> Any:
        try:
            return run(function, client, *arguments)
        except Exception as error:
            raise translated(error, address, endpoint) from None

    return persist(attempt, address, server=endpoint.server)


async def _call(client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    await connect(client)
    return await client._call_s3(method, **arguments)


async def _get(client: Any, address: Address, wanted: str | None) -> tuple[bytes, str]:
    await connect(client)
    arguments = {"Range": wanted} if wanted else {}
    answer = await client._call_s3("get_object", **_place(address), **arguments)
    async with answer["Body"] as body:
        data = await body.read()
    if len(data) != answer["ContentLength"]:
        raise ConnectionError("the body ended early")
    return data, answer.get("ETag", "").strip('"')


def missing(address: Address) -> StorageError:
    """No such object, or, if that is why, no such bucket."""
    endpoint: Endpoint = endpoint_of(address)
    with suppress(NoObject):
        _request(address, _call, "head_bucket", {"Bucket": address.container})
        return StorageError(
            "storage.not-found",
            f"{address}: no such object on {endpoint.server}",
            remedy="check the key, letter by letter",
        )
    return no_bucket(address)


def no_bucket(address: Address) -> StorageError:
    return StorageError(
        "storage.no-bucket",
        f"{address}: there is no bucket {address.container!r} on {endpoint_of(address).server}",
        remedy="check the bucket's name and the endpoint; buckets are not created for you",
    )

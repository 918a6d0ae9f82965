"""What an exception of the S3 client means: another attempt, an absence, or a StorageError with its remedy.

Messages hold server, bucket and key, never credentials or the server's own text about them.
"""

import os

from kinsight.errors import StorageError
from kinsight.storage.address import Address
from kinsight.storage.endpoints import Endpoint
from kinsight.storage.retry import Transient

_ABSENT = {"NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NoSuchVersion", "404"}
_WRONG_REGION = {
    "PermanentRedirect", "TemporaryRedirect", "Redirect", "301", "307", "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException", "SecondLevelDomainForbidden",
}  # fmt: skip
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidSecurity",
    "SecurityTokenExpired", "TokenRefreshRequired", "InvalidSecurityToken",
}  # fmt: skip
_AGAIN = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "IncompleteBody",
    "OperationAborted",
}


class NoObject(Exception):
    """The object, the bucket or the upload is not there."""


class PastEnd(Exception):
    """The range starts at or after the object's end."""


def translated(error: Exception, address: Address, endpoint: Endpoint) -> Exception:
    """What to raise instead of `error`."""
    from botocore.exceptions import BotoCoreError, ClientError

    cause = error.__cause__
    if isinstance(error, StorageError | Transient):
        return error
    if isinstance(error, ClientError):
        return _refused(error.response, address, endpoint)
    if isinstance(cause, ClientError):
        return _refused(cause.response, address, endpoint)
    if isinstance(error, BotoCoreError):
        return _client_side(error, address, endpoint)
    if _is_connection_trouble(error):
        return Transient(_brief(error))
    return error


def _refused(response: dict, address: Address, endpoint: Endpoint) -> Exception:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _ABSENT or (status == 404 and code not in _BAD_CREDENTIALS):
        return NoObject()
    if code in ("InvalidRange", "416") or status == 416:
        return PastEnd()
    if code in _AGAIN or status == 429 or (status >= 500 and status != 501):
        return Transient(f"it answered {status} {code}".rstrip())
    if code in _WRONG_REGION or status in (301, 307):
        return _wrong_region(address, endpoint, code)
    if code in ("RequestTimeTooSkewed",):
        return StorageError(
            "storage.clock",
            f"{address}: this machine's clock differs too much from {endpoint.server}'s",
            remedy="set the clock",
        )
    if code in _BAD_CREDENTIALS:
        return _bad_credentials(address, endpoint, code)
    if status in (401, 403):
        return StorageError(
            "storage.denied",
            f"{address}: access denied by {endpoint.server}",
            remedy=f"check that the credentials from {endpoint.credentials_from} are right and may do this with bucket "
            f"{address.container!r}",
        )
    return StorageError(
        "storage.refused",
        f"{address}: {endpoint.server} refused the request ({status} {code})",
        remedy="check the endpoint and the key",
    )


def _wrong_region(address: Address, endpoint: Endpoint, code: str) -> StorageError:
    return StorageError(
        "storage.wrong-region",
        f"{address}: bucket {address.container!r} is not served by {endpoint.server} in this form ({code})",
        remedy="set the bucket's own region and endpoint (AWS_REGION, or OSS_ENDPOINT); "
        "KINSIGHT_S3_ADDRESSING / KINSIGHT_OSS_ADDRESSING choose path or virtual addressing",
    )


def _bad_credentials(address: Address, endpoint: Endpoint, code: str) -> StorageError:
    return StorageError(
        "storage.credentials",
        f"{address}: {endpoint.server} does not accept the credentials ({code})",
        remedy=f"check {endpoint.credentials_from}",
    )


def _client_side(error: Exception, address: Address, endpoint: Endpoint) -> Exception:
    from botocore import exceptions as boto

    match error:
        case boto.SSLError():
            return StorageError(
                "storage.tls",
                f"{address}: no trusted encrypted connection to {endpoint.server}",
                remedy="check the endpoint (http:// or https://) and the certificates (AWS_CA_BUNDLE)",
            )
        case boto.ProfileNotFound():
            return StorageError(
                "storage.credentials",
                f"{address}: AWS_PROFILE names a profile that the AWS configuration files do not have",
                remedy="name one of theirs, or unset AWS_PROFILE",
            )
        case (
            boto.NoCredentialsError()
            | boto.PartialCredentialsError()
            | boto.CredentialRetrievalError()
            | boto.TokenRetrievalError()
        ):
            return StorageError(
                "storage.credentials",
                f"{address}: no usable credentials for {endpoint.server}",
                remedy=f"check {endpoint.credentials_from}; KINSIGHT_S3_ANONYMOUS=1 reads public buckets",
            )
        case boto.ParamValidationError() | boto.InvalidEndpointDiscoveryConfigurationError():
            return StorageError("storage.refused", f"{address}: not a valid bucket or key", remedy="check the address")
        case (
            boto.HTTPClientError() | boto.ConnectionError() | boto.IncompleteReadError() | boto.ResponseStreamingError()
        ):
            return Transient(_brief(error))
        case _ if type(error).__name__ == "ResponseParserError":
            return Transient("its answer could not be read")
        case _:
            return StorageError(
                "storage.failed",
                f"{address}: {type(error).__name__} before the request was sent",
                remedy="check the address and AWS's settings",
            )


def _is_connection_trouble(error: Exception) -> bool:
    import ssl

    from aiohttp import ClientError as WebError

    return isinstance(error, WebError | ConnectionError | TimeoutError | ssl.SSLError) or (
        type(error) is OSError and error.errno is not None and error.__cause__ is None
    )


def _brief(error: Exception) -> str:
    """A few words on a failed connection: the innermost operating system error, without any address."""
    seen: BaseException | None = error
    while seen is not None:
        inner = seen.kwargs.get("error") if hasattr(seen, "kwargs") and isinstance(seen.kwargs, dict) else None  # type: ignore[attr-defined]
        inner = inner or getattr(seen, "os_error", None) or seen.__cause__
        if isinstance(seen, OSError) and seen.errno and not inner:
            return os.strerror(seen.errno).lower() if seen.errno > 0 else str(seen.strerror).lower()
        if not isinstance(inner, BaseException):
            break
        seen = inner
    names = {"ReadTimeoutError": "no answer in time", "ConnectTimeoutError": "no connection in time"}
    return names.get(type(error).__name__, type(error).__name__)

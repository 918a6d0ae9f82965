"""Which server an `s3://` or `oss://` address is at, and with which credentials it is asked.

s3: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, and AWS's own credential chain. oss: the endpoint in the address, then
`OSS_BUCKETS` + `OSS_ENDPOINTS`, then `OSS_ENDPOINT`, then the ossutil configuration file; credentials likewise.
"""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import urlsplit

from kinsight.errors import SpecError, StorageError
from kinsight.storage.address import Address
from kinsight.storage.ossutil import OssutilConfig, config_path, read_config
from kinsight.storage.retry import timeout_s

Addressing = Literal["auto", "path", "virtual"]

_OSS_HOST = re.compile(r"^(?:s3\.)?(oss-[a-z0-9-]+)\.aliyuncs\.com$")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach one server. Compared by value: equal endpoints share a client. Its repr shows no secret."""

    url: str | None
    region: str | None
    addressing: Addressing
    anonymous: bool
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    profile: str | None = None
    credentials_from: str = ""
    timeout_s: float = 60.0

    @property
    def server(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.url).netloc.rpartition("@")[2] if self.url else "Amazon S3"


def endpoint_of(address: Address) -> Endpoint:
    """The endpoint of an s3 or oss address. Raises StorageError (nothing configured), SpecError (malformed)."""
    return _s3_endpoint() if address.scheme == "s3" else _oss_endpoint(address)


def _s3_endpoint() -> Endpoint:
    variable = "AWS_ENDPOINT_URL_S3" if os.environ.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
    text = os.environ.get(variable)
    url = _url(text, variable) if text else None
    return Endpoint(
        url=url,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        addressing=_addressing("KINSIGHT_S3_ADDRESSING", "path" if url and _needs_path_style(url) else "auto"),
        anonymous=_flag("KINSIGHT_S3_ANONYMOUS"),
        # Part of the value, so that a changed environment means another client; absent ones leave AWS's chain alone.
        key=os.environ.get("AWS_ACCESS_KEY_ID") or None,
        secret=os.environ.get("AWS_SECRET_ACCESS_KEY") or None,
        token=os.environ.get("AWS_SESSION_TOKEN") or None,
        profile=os.environ.get("AWS_PROFILE") or None,
        credentials_from="AWS's credential chain (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, instance role)",
        timeout_s=timeout_s(),
    )


def _oss_endpoint(address: Address) -> Endpoint:
    config = read_config()
    url = _oss_url(address, config)
    anonymous = _flag("KINSIGHT_OSS_ANONYMOUS")
    key, secret, token, source = (None, None, None, "anonymous access") if anonymous else _oss_credentials(config)
    return Endpoint(
        url=url,
        region=os.environ.get("OSS_REGION") or _oss_region(url),
        addressing=_addressing("KINSIGHT_OSS_ADDRESSING", "path" if _needs_path_style(url) else "virtual"),
        anonymous=anonymous,
        key=key,
        secret=secret,
        token=token,
        credentials_from=source,
        timeout_s=timeout_s(),
    )


def _oss_url(address: Address, config: OssutilConfig | None) -> str:
    if address.endpoint:
        return _s3_form(_url(address.endpoint, str(address)))
    if named := _named_endpoints().get(address.container):
        return _s3_form(_url(named, "OSS_ENDPOINTS"))
    if general := os.environ.get("OSS_ENDPOINT"):
        return _s3_form(_url(general, "OSS_ENDPOINT"))
    if config and (configured := config.bucket_endpoints.get(address.container) or config.endpoint):
        return _s3_form(_url(configured, str(config.path)))
    raise StorageError(
        "storage.endpoint",
        f"{address}: no endpoint is known for bucket {address.container!r}",
        remedy="set OSS_ENDPOINT (such as oss-cn-hangzhou.aliyuncs.com), or write it into the address: "
        f"oss://{address.container}.oss-cn-hangzhou.aliyuncs.com/{address.path}",
    )


def _named_endpoints() -> dict[str, str]:
    buckets, endpoints = (_listed(name) for name in ("OSS_BUCKETS", "OSS_ENDPOINTS"))
    if len(buckets) != len(endpoints):
        raise SpecError(
            "spec.environment",
            f"names {len(endpoints)} endpoints, but OSS_BUCKETS {len(buckets)} buckets",
            field="OSS_ENDPOINTS",
            remedy="give both the same number of entries, separated by commas; or set OSS_ENDPOINT for all buckets",
        )
    buckets = [bucket.removeprefix("oss://").strip("/").partition(".")[0] for bucket in buckets]
    return dict(zip(buckets, endpoints, strict=True))


def _listed(name: str) -> list[str]:
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def _oss_credentials(config: OssutilConfig | None) -> tuple[str, str, str | None, str]:
    key, secret = os.environ.get("OSS_ACCESS_KEY_ID"), os.environ.get("OSS_ACCESS_KEY_SECRET")
    if key and secret:
        source = "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
        return key, secret, os.environ.get("OSS_SESSION_TOKEN") or None, source
    if key or secret:
        missing = "OSS_ACCESS_KEY_SECRET" if key else "OSS_ACCESS_KEY_ID"
        raise StorageError("storage.credentials", f"{missing} is not set, its counterpart is", remedy=f"set {missing}")
    if config is None:
        raise StorageError(
            "storage.credentials",
            f"no credentials for oss://: OSS_ACCESS_KEY_ID is not set and there is no {config_path()}",
            remedy="set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or run `ossutil config`; "
            "KINSIGHT_OSS_ANONYMOUS=1 reads public buckets",
        )
    return config.key, config.secret, config.token, str(config.path)


def _url(text: str, where: str) -> str:
    """`text` with a scheme: https, but http on a bare address or this machine, where certificates do not exist."""
    if "://" not in text:
        text = f"{'http' if _is_bare_host(text) else 'https'}://{text}"
    parts = urlsplit(text)
    try:
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SpecError(
            "spec.environment", "is not an endpoint", field=where, remedy="write host, host:port or https://host"
        )
    return text.rstrip("/")


def _s3_form(url: str) -> str:
    """OSS answers to S3's protocol under `s3.oss-REGION...`; other hosts are taken as they are."""
    parts = urlsplit(url)
    if found := _OSS_HOST.match(parts.hostname or ""):
        return f"{parts.scheme}://s3.{found[1]}.aliyuncs.com"
    return url


def _oss_region(url: str) -> str | None:
    found = _OSS_HOST.match(urlsplit(url).hostname or "")
    return found[1].removeprefix("oss-").removesuffix("-internal") if found else None


def _is_bare_host(netloc: str) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _needs_path_style(url: str) -> bool:
    """Whether `bucket.host` cannot resolve: a bare address, this machine, or a name without a dot."""
    parts = urlsplit(url)
    return _is_bare_host(parts.netloc) or "." not in (parts.hostname or "")


def _addressing(variable: str, default: Addressing) -> Addressing:
    value = os.environ.get(variable) or default
    if value not in ("auto", "path", "virtual"):
        raise SpecError(
            "spec.environment", f"{value!r}: must be path, virtual or auto", field=variable, remedy="mend or unset it"
        )
    return cast(Addressing, value)


def _flag(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")

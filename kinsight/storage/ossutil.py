"""ossutil's configuration file: `~/.ossutilconfig`, or the file that `OSS_CONFIG_FILE` names."""

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from kinsight.errors import StorageError
from kinsight.storage.local import local_errors

VARIABLE = "OSS_CONFIG_FILE"


@dataclass(frozen=True, slots=True)
class OssutilConfig:
    """What the file says. Its repr shows no secret. bucket_endpoints: bucket -> endpoint, over `endpoint`."""

    path: Path
    endpoint: str | None
    key: str = field(repr=False)
    secret: str = field(repr=False)
    token: str | None = field(repr=False)
    bucket_endpoints: dict[str, str] = field(default_factory=dict)


def config_path() -> Path:
    named = os.environ.get(VARIABLE)
    return Path(named or "~/.ossutilconfig").expanduser()


def read_config() -> OssutilConfig | None:
    """The configuration, or None where no file is. Raises StorageError if it is malformed, or named and absent."""
    path = config_path()
    if not path.is_file():
        if os.environ.get(VARIABLE):
            raise StorageError(
                "storage.credentials", f"{path}: no such file", field=VARIABLE, remedy="mend or unset it"
            )
        return None
    with local_errors(path):
        status = path.stat()
        return _parse(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _parse(path: Path, mtime_ns: int, size: int) -> OssutilConfig:
    import configparser

    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except (configparser.Error, UnicodeDecodeError) as error:
        # The parser's own message quotes the line, which may hold the secret.
        line = getattr(error, "lineno", None) or next(iter(getattr(error, "errors", [])), (None,))[0]
        at = f"line {line}: " if line else ""
        raise StorageError(
            "storage.credentials",
            f"{path}: {at}not in the form of an ossutil configuration",
            field=VARIABLE,
            remedy="write [Credentials] and below it lines `name=value`, as `ossutil config` does",
        ) from None
    if not parser.has_section("Credentials"):
        raise _lacks(path, "the section [Credentials]")
    values = {name.lower(): value.strip() for name, value in parser.items("Credentials")}
    for name in ("accessKeyID", "accessKeySecret"):
        if not values.get(name.lower()):
            raise _lacks(path, f"{name} in [Credentials]")
    endpoints = dict(parser.items("Bucket-Endpoint")) if parser.has_section("Bucket-Endpoint") else {}
    return OssutilConfig(
        path=path,
        endpoint=values.get("endpoint") or None,
        key=values["accesskeyid"],
        secret=values["accesskeysecret"],
        token=values.get("ststoken") or None,
        bucket_endpoints={bucket: endpoint.strip() for bucket, endpoint in endpoints.items() if endpoint.strip()},
    )


def _lacks(path: Path, what: str) -> StorageError:
    return StorageError(
        "storage.credentials", f"{path}: lacks {what}", field=VARIABLE, remedy="run `ossutil config`, or add it"
    )

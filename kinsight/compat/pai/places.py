"""-Dbuckets, -DossHost, -Darn: where oss:// addresses are, for as long as a command runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from kinsight.compat.pai.words import PaiCommand, is_placeholder
from kinsight.errors import SpecError
from kinsight.progress import say

_KEYS = "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or ossutil's configuration"


@contextmanager
def reachable(command: PaiCommand) -> Iterator[None]:
    """Within, oss:// means the hosts that the command names; what it leaves open, the environment says.

    Raises SpecError for a -Dbuckets that names none.
    """
    wanted = environment(command)
    for name in ("buckets", "ossHost", "host"):
        if (text := command.get(name)) is not None and is_placeholder(_place(text)):
            say(f"-D{name}    {text}: not filled in; OSS_ENDPOINT, or an address with its host, says where OSS is")
            break
    if command.get("arn") is not None:
        say(f"-Darn       no role is taken here: keys come from {_KEYS}")
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)  # ranks that are started inherit it
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def environment(command: PaiCommand) -> dict[str, str]:
    """The variables that the command stands for."""
    hosts = _hosts(command.get("buckets") or "")
    general = next((host for name in ("ossHost", "host") if (host := command.get(name))), None)
    if general is not None and is_placeholder(general):
        general = None
    if general is None and hosts:
        general = hosts[0][1]
    wanted = {} if general is None else {"OSS_ENDPOINT": _host_alone(general)}
    if hosts:
        wanted |= {"OSS_BUCKETS": ",".join(b for b, _ in hosts), "OSS_ENDPOINTS": ",".join(h for _, h in hosts)}
    return wanted


def _hosts(buckets: str) -> list[tuple[str, str]]:
    """Pairs of bucket and host, of those that name a host."""
    found = []
    for entry in buckets.split(","):
        place = _place(entry)
        if not place or is_placeholder(place):
            continue
        bucket, _, host = place.partition(".")
        if not bucket:
            remedy = "write BUCKET.HOST/PATH, such as examplebucket.oss-cn-shanghai.aliyuncs.com/folder"
            raise SpecError("pai.buckets", f"{entry.strip()!r} names no bucket", field="-Dbuckets", remedy=remedy)
        if host:
            found.append((bucket, host))
    return found


def _place(text: str) -> str:
    """Bucket and host of an entry, without the folder behind them."""
    return text.strip().removeprefix("oss://").strip("/").partition("/")[0]


def _host_alone(text: str) -> str:
    return text.strip().removeprefix("oss://").rstrip("/")

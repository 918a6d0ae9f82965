"""Who retries: only this module. Exponential backoff with jitter, within one overall limit per request.

The clients below (botocore, aiohttp, s3fs) are set to a single attempt, so that waits do not multiply and the limit
that is promised is the limit that holds.
"""

import logging
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from kinsight.errors import SpecError, StorageError
from kinsight.storage.address import Address

Result = TypeVar("Result")

TIMEOUT_VARIABLE = "KINSIGHT_STORAGE_TIMEOUT_S"
DEFAULT_TIMEOUT_S = 60.0
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
_jitter = random.Random()  # its own generator: the global one belongs to experiments
_log = logging.getLogger("kinsight.storage")


class Transient(Exception):
    """One attempt failed in a way that another may not; `reason` holds no secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def timeout_s() -> float:
    """How long a request is repeated before the server counts as away, in seconds, from the environment."""
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    if not text:
        return DEFAULT_TIMEOUT_S
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 86_400:
        raise SpecError(
            "spec.environment",
            f"{text!r}: must be a number of seconds above 0 and below 86400",
            field=TIMEOUT_VARIABLE,
            remedy=f"unset it ({DEFAULT_TIMEOUT_S:g} then) or set a number of seconds",
        )
    return value


def persist(attempt: Callable[[], Result], address: Address, *, server: str) -> Result:
    """Result of `attempt`, repeated while it raises Transient. Raises StorageError once the limit has passed."""
    limit_s = timeout_s()
    start = time.monotonic()
    wait_s = _FIRST_WAIT_S
    tries = 0
    while True:
        try:
            return attempt()
        except Transient as trouble:
            reason = trouble.reason
        tries += 1
        left_s = start + limit_s - time.monotonic()
        if left_s <= 0:
            raise _given_up(address, server, time.monotonic() - start, tries, reason) from None
        if tries == 1:
            _log.warning("%s: %s; trying again for up to %.0f s", server, reason, limit_s)
        time.sleep(min(left_s, wait_s * _jitter.uniform(0.5, 1.0)))
        wait_s = min(_LONGEST_WAIT_S, wait_s * 2)


def _given_up(address: Address, server: str, passed_s: float, tries: int, reason: str) -> StorageError:
    return StorageError(
        "storage.unreachable",
        f"{address}: {server} did not answer as it should for {passed_s:.0f} s ({tries} attempts; last: {reason})",
        remedy=f"check the server, the endpoint and the network; {TIMEOUT_VARIABLE} sets how long to keep trying",
    )

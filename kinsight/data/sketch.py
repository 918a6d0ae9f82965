"""A small sample of a set of images by which another set can be told to share some of them."""

import hashlib
from collections.abc import Iterable

SKETCH_SIZE = 1024
"""Hashes kept: a few shared images among a thousand are found in sets up to some hundred thousand."""


def sketch(uris: Iterable[str]) -> tuple[str, ...]:
    """The smallest hashes of the addresses, ascending; all of them where there are few (bottom-k, Cohen 1997)."""
    return tuple(sorted({_hash(uri) for uri in uris})[:SKETCH_SIZE])


def share_in(sketched: tuple[str, ...], uris: Iterable[str]) -> float:
    """About which share of these addresses the sketched set has; 0 where none is seen to be.

    Only hashes up to the largest that is kept can be looked up, unless all were kept.
    """
    known = frozenset(sketched)
    hashes = {_hash(uri) for uri in uris if uri}
    if len(sketched) == SKETCH_SIZE:
        hashes = {each for each in hashes if each <= sketched[-1]}
    return sum(each in known for each in hashes) / len(hashes) if hashes else 0.0


def _hash(uri: str) -> str:
    return hashlib.blake2b(uri.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

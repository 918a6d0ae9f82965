"""Images that could not be read: found by any rank, remembered over interruptions, named in run.json."""

import json

from kinsight.data import ImageLoader
from kinsight.parallel.groups import gather_texts, is_main
from kinsight.training.prepared import Prepared
from kinsight.training.state import Broken


def collect_broken(prepared: Prepared) -> Broken:
    """What the loaders of all ranks have found, by purpose; every rank calls it."""
    mine = {
        purpose: [[index, uri, reason] for index, (uri, reason) in zip(loader.broken_index, loader.broken, strict=True)]
        for purpose, loader in _loaders(prepared).items()
    }
    merged: dict[str, dict[int, tuple[int, str, str]]] = {purpose: {} for purpose in mine}
    for part in map(json.loads, gather_texts(json.dumps(mine))):
        for purpose, found in part.items():
            merged[purpose] |= {index: (index, uri, reason) for index, uri, reason in found}
    return {purpose: [found[index] for index in sorted(found)] for purpose, found in merged.items()}


def put_back_broken(prepared: Prepared) -> None:
    """After a resume the main rank's loaders know again what was found before it."""
    if is_main():
        for purpose, loader in _loaders(prepared).items():
            found = prepared.training.broken.get(purpose, [])
            loader.remember_broken((index, uri, reason) for index, uri, reason in found)


def _loaders(prepared: Prepared) -> dict[str, ImageLoader]:
    loaders = {"training": prepared.loader}
    return loaders | ({"validation": prepared.validation} if prepared.validation is not None else {})

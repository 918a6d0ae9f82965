"""How few vectors codes can be learned from."""

from kinsight.errors import SpecError
from kinsight.indexing.settings import Settings, Tuned
from kinsight.specs.index import IvfIndex, IvfPqIndex

_LEARNED = {"pq": 2**8, "fastscan": 2**4}  # codes of 8 and of 4 bits; other payloads do with a single vector


def least_vectors(settings: Settings) -> int:
    """Vectors without which nothing can be learned for these settings; 1 where nothing is learned."""
    match settings:
        case Tuned():
            return _LEARNED.get(settings.payload, 1)
        case IvfPqIndex():
            assert settings.lists and settings.bits
            return max(settings.lists, 2**settings.bits)
        case IvfIndex():
            assert settings.lists
            return settings.lists
        case _:
            return 1


def refuse_few(settings: Settings, count: int) -> None:
    """Raise SpecError where `count` vectors are too few for the codes of a learned index; `decide` looks at others."""
    if isinstance(settings, Tuned) and count < (least := least_vectors(settings)):
        fewer = "sq8, flat, fp16 or rabitq" if count < _LEARNED["fastscan"] else "fastscan, sq8, flat, fp16 or rabitq"
        raise SpecError(
            "index.setting",
            f"its codes need {least} vectors to learn from, there are {count:,}",
            field=f"index.payload={settings.payload}",
            remedy=f"give more vectors, or choose payload {fewer}",
        )

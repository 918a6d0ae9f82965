"""Whether it makes sense to go on where addresses do not answer: by which servers have answered, and which are left."""

import numpy as np
import numpy.typing as npt

from kinsight.data import Records
from kinsight.data.arrow import pc
from kinsight.errors import StorageError

IN_A_ROW = 16  # images without an answer: it is not about the images then
_SERVER = r"^(?P<server>[A-Za-z][A-Za-z0-9+.-]*://[^/?]*)"


class Servers:
    """The servers of a list of images. answered: those of which an image was answered, at any time."""

    def __init__(self, records: Records, answered_N: npt.NDArray[np.bool_]) -> None:
        """answered_N: of the first images, whether they have an answer already."""
        names = pc.struct_field(pc.extract_regex(records.table["uri"], _SERVER), "server")
        coded = pc.utf8_lower(pc.fill_null(names, "")).dictionary_encode().unify_dictionaries()
        self._names: list[str] = coded.chunk(0).dictionary.to_pylist()
        self._of_N = np.concatenate([chunk.indices.to_numpy() for chunk in coded.chunks])
        self._answered = set(self._of_N[: len(answered_N)][answered_N].tolist())
        self._silent: set[int] = set()
        self._in_a_row = 0

    def note(self, index_B: npt.NDArray[np.int64], silent: set[int], reason: str) -> bool:
        """Whether what is known of these images, and of all silent ones right before them, can be kept.

        Not while they are few, nor while nothing at all has answered and other servers are yet to be asked. reason: why
        the last one has no answer. Raises StorageError where to go on makes no sense: a server that used to answer has
        stopped, or none ever has.
        """
        if len(silent) < len(index_B):
            answering = [index for index in index_B.tolist() if index not in silent]
            self._answered.update(self._of_N[answering].tolist())
            self._silent, self._in_a_row = set(), 0
            return True
        self._silent.update(self._of_N[index_B].tolist())
        self._in_a_row += len(index_B)
        if self._in_a_row < IN_A_ROW:
            return False
        if lost := self._silent & self._answered:
            raise self._stopped(f"{self._names[min(lost)] or 'the disk'} has stopped answering", reason)
        if self._answered:
            return True
        if self._silent >= set(range(len(self._names))):
            raise self._stopped("none of the images can be reached", reason)
        return False

    def _stopped(self, what: str, reason: str) -> StorageError:
        return StorageError(
            "predict.unreachable",
            f"{what}: {self._in_a_row} images in a row have no answer, the last: {reason}",
            remedy="see that it answers, then give the same command again: what is answered is kept, and it goes on "
            "there; --unreachable skip makes lines with errors of what does not answer",
        )

"""Training and validation images as one table, so that everything is looked at once and compared with everything."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kinsight.data import Records
from kinsight.data.arrow import pc

SETS = ("data", "validation")


@dataclass(frozen=True)
class Joint:
    """Images of `parts` (the data, and the validation set if there is one) in one numbering.

    records: addresses and labels of all, with one vocabulary. A class is the same in both parts if its name is.
    """

    parts: tuple[Records, ...]
    records: Records

    @classmethod
    def of(cls, *parts: Records) -> "Joint":
        names = list(dict.fromkeys(name for part in parts for name in part.class_names))
        number = {name: place for place, name in enumerate(names)}
        uris, labels = [], []
        for part in parts:
            offset_N1, label_M = part.labels_csr
            own_C = np.array([number[name] for name in part.class_names], np.int32)
            values = own_C[label_M] if len(label_M) else np.zeros(0, np.int32)
            labels.append(pa.ListArray.from_arrays(pa.array(offset_N1.astype(np.int32)), pa.array(values, pa.int32())))
            uris += part.uris.chunks
        table = pa.table({"uri": pa.chunked_array(uris, pa.string()), "labels": pa.chunked_array(labels)})
        return cls(parts, Records(table, names, parts[0].source))

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def start(self) -> int:
        """Number of the first validation image; of images in all where there are none."""
        return len(self.parts[0])

    @cached_property
    def set_N(self) -> npt.NDArray[np.int8]:
        """0: data, 1: validation."""
        return (np.arange(len(self)) >= self.start).astype(np.int8)

    @cached_property
    def key_N(self) -> npt.NDArray[np.int64]:
        """Equal for images with the same labels; -1: none; a single label is its own key, further keys are below -1."""
        offset_N1, label_M = self.records.labels_csr
        count_N = np.diff(offset_N1)
        key_N = np.full(len(self), -1, np.int64)
        single_N = count_N == 1
        key_N[single_N] = label_M[offset_N1[:-1][single_N]]
        several: dict[tuple[int, ...], int] = {}
        for row in np.flatnonzero(count_N > 1).tolist():
            labels = tuple(sorted(label_M[offset_N1[row] : offset_N1[row + 1]].tolist()))
            key_N[row] = several.setdefault(labels, -2 - len(several))
        return key_N

    @cached_property
    def first_N(self) -> npt.NDArray[np.int64]:
        """Number of the first image with the same address."""
        codes = pc.dictionary_encode(self.records.table["uri"]).combine_chunks()
        codes = codes.chunk(0) if isinstance(codes, pa.ChunkedArray) else codes
        return first_equal(codes.indices.to_numpy(zero_copy_only=False))

    def count_C(self, part: int) -> npt.NDArray[np.int64]:
        """Images per class in a part."""
        offset_N1, label_M = self.records.labels_csr
        low, high = (0, self.start) if part == 0 else (self.start, len(self))
        return np.bincount(label_M[offset_N1[low] : offset_N1[high]], minlength=self.records.num_classes)

    def place(self, i: int) -> str:
        """Where an image stands, for messages: list and line, or its address."""
        part = int(i >= self.start)
        return self.parts[part].place(i - part * self.start)

    def label_text(self, i: int) -> str:
        """The class names of an image, as people read them."""
        return ", ".join(self.records.class_names[label] for label in self.records.labels(i))


def first_equal(value_N: np.ndarray) -> npt.NDArray[np.int64]:
    """For each element the position of the first equal one."""
    _, first_U, inverse_N = np.unique(value_N, return_index=True, return_inverse=True)
    return first_U[inverse_N.reshape(-1)].astype(np.int64)

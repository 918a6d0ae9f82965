"""What is wrong with an npy file that cannot be used, in words."""

import math
from pathlib import Path

import numpy as np

_KINDS = {"c": "complex numbers", "U": "text", "S": "text", "b": "true and false", "M": "dates", "V": "records"}


def kind_of(dtype: np.dtype) -> str:
    """What an array that holds no real numbers holds."""
    return _KINDS.get(dtype.kind, "no numbers")


def why_not_npy(path: Path) -> tuple[str, str] | None:
    """(what is wrong with the file, what to do) in words; None where only numpy's are known."""
    size = path.stat().st_size
    if not size:
        return "it is empty", "copy it again, whole"
    with path.open("rb") as file:
        magic = file.read(8)
        if not magic.startswith(b"\x93NUMPY") or len(magic) < 8:
            return None
        try:
            file.seek(0)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        except ValueError as error:
            return ("it ends within its header", "copy it again, whole") if "EOF" in str(error) else None
        if dtype.hasobject:
            return "it holds Python objects, not numbers", "write float32 rows of one length: rows.astype('float32')"
        whole = file.tell() + math.prod(shape) * dtype.itemsize
    if size < whole:
        return f"it is truncated: {size:,} bytes, its header says {whole:,}", "copy it again, whole"
    return None

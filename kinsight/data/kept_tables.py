"""Tables that were costly to make, kept in the cache under all that they depend on."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from kinsight import progress, storage
from kinsight.errors import StorageError


def kept_file(kind: str, made_from: list[Any]) -> Path:
    """Where the table made from this is kept. made_from: data as JSON has it."""
    key = json.dumps(made_from).encode("utf-8", "surrogatepass")
    return storage.cache_directory() / kind / f"{hashlib.sha256(key).hexdigest()[:32]}.arrow"


def kept(file: Path | None) -> pa.Table | None:
    """The table kept there, if there is one."""
    if file is None:
        return None
    with suppress(OSError, pa.ArrowInvalid):  # absent, or cut off by a full disk: it is made anew
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    return None


def keep(table: pa.Table, file: Path | None) -> None:
    """Keep a table for the next time; where that is impossible, say so."""
    if file is None:
        return
    try:
        with storage.open_write(file) as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)
    except StorageError as error:
        progress.warn(f"the index cannot be kept, so the next run reads the files again: {error.message}")

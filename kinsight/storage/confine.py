"""Paths that come from users, lists and archives stay below the directory they belong to."""

import os
from pathlib import Path, PurePosixPath

from kinsight.errors import StorageError


def confine(root: Path, relative: str) -> Path:
    """The absolute path of `relative` below `root`, with links resolved. It need not exist.

    Raises StorageError for absolute paths, `..`, zero bytes, and symbolic links that lead out of `root`.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith(("/", "\\")) or "\0" in relative or ".." in parts:
        raise _escapes(root, relative)
    real_root = Path(os.path.realpath(root))
    path = Path(os.path.realpath(real_root / relative))
    if path == real_root or not path.is_relative_to(real_root):
        raise _escapes(root, relative)
    return path


def _escapes(root: Path, relative: str) -> StorageError:
    return StorageError(
        "storage.outside", f"{relative!r} does not stay below {root}", remedy="use relative paths without '..'"
    )

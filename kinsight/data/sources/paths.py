"""Paths in a source become addresses, whole columns at a time."""

from dataclasses import replace

import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.storage import Address

# Names that count as images where nothing else says so: in folders, and where a path ends in a list.
IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "gif", "webp", "tif", "tiff", "jp2", "avif"),
    *("ppm", "pgm", "pbm", "pnm", "tga"),
)
SUFFIX_PATTERN = "|".join(sorted(IMAGE_SUFFIXES, key=len, reverse=True))

_ABSOLUTE = r"^(?:[A-Za-z][A-Za-z0-9+.-]*://|[/~])"


def root_of(root: str | None, list_address: str) -> Address:
    """The directory that relative paths start from: `root`, else the list's own."""
    address = Address.parse(root) if root is not None else Address.parse(list_address).parent
    if address.is_local:
        return replace(address, path=str(address.local_path.absolute()))
    return replace(address, query="")


def resolve_paths(path_N: pa.ChunkedArray, root: Address) -> pa.ChunkedArray:
    """Addresses of images: absolute paths and addresses as they are, relative paths below `root`.

    `..` may lead out of a local root, but not out of a bucket or server (SpecError).
    """
    return pa.chunked_array([_resolved(chunk, root) for chunk in path_N.chunks], pa.string())


def _resolved(path_n: pa.Array, root: Address) -> pa.Array:
    absolute = pc.match_substring_regex(path_n, _ABSOLUTE)
    if pc.all(absolute).as_py():
        return path_n
    below = _below(pc.replace_substring_regex(path_n, r"^(?:\./+)+", ""), root)
    return pc.if_else(absolute, path_n, below) if absolute.true_count else below


def _below(path_n: pa.Array, root: Address) -> pa.Array:
    if root.scheme in ("http", "https"):  # names are literal in a list, and encoded in a URL
        for character, code in (("%", "%25"), ("?", "%3F"), ("#", "%23")):
            path_n = pc.replace_substring(path_n, character, code)
        path_n = pc.replace_substring_regex(path_n, "%23(bytes=[0-9]+-[0-9]+)$", r"#\1")  # a piece of a file
    if root.is_local or not pc.any(pc.starts_with(path_n, "../")).as_py():
        return pc.binary_join_element_wise(_directory_uri(root), path_n, "")
    # Object keys know no `..`: climb once per distinct way up.
    parts = pc.extract_regex(path_n, r"^(?P<up>(?:\.\.?/+)*)(?P<rest>.*)$")
    up = parts.field(0).dictionary_encode()
    heads = [
        _directory_uri(root.join(*[part for part in text.split("/") if part])) for text in up.dictionary.to_pylist()
    ]
    return pc.binary_join_element_wise(pa.array(heads, pa.string()).take(up.indices), parts.field(1), "")


def _directory_uri(directory: Address) -> str:
    return directory.child("x").uri[:-1]

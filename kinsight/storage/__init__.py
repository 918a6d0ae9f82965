"""Addresses and bytes: what an address means, who retries, what an atomic write is. Nothing else decides that.

Remote libraries are imported at the first remote access, so importing this package is quick.
"""

from kinsight.storage.address import SCHEMES, Address, Scheme
from kinsight.storage.archives import Limits, extract_archive
from kinsight.storage.cache import cache_directory, copy_in
from kinsight.storage.confine import confine
from kinsight.storage.dispatch import AddressLike, is_directory, stat
from kinsight.storage.files import (
    exists,
    list_files,
    open_read,
    open_write,
    read_bytes,
    read_text,
    remove,
    remove_tree,
    size,
    write_bytes,
    write_text,
)
from kinsight.storage.local import FileEntry, Stat, local_error, local_errors, make_directory, remove_left_aside
from kinsight.storage.output import OutputDir
from kinsight.storage.remote import close_clients
from kinsight.storage.resume import download_resumable
from kinsight.storage.sources import Progress
from kinsight.storage.transfer import download_file, upload_file

__all__ = [
    "SCHEMES",
    "Address",
    "AddressLike",
    "FileEntry",
    "Limits",
    "OutputDir",
    "Progress",
    "Scheme",
    "Stat",
    "cache_directory",
    "close_clients",
    "confine",
    "copy_in",
    "download_file",
    "download_resumable",
    "exists",
    "extract_archive",
    "is_directory",
    "list_files",
    "local_error",
    "local_errors",
    "make_directory",
    "open_read",
    "open_write",
    "read_bytes",
    "read_text",
    "remove",
    "remove_left_aside",
    "remove_tree",
    "size",
    "stat",
    "upload_file",
    "write_bytes",
    "write_text",
]

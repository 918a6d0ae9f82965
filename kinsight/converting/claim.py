"""Whose the output of a `convert` job is: free, to be gone on with, finished, or somebody else's."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

from kinsight import storage
from kinsight.converting.plan import ENDINGS
from kinsight.data import Records
from kinsight.errors import SpecError, StorageError
from kinsight.evaluation.settings import differing_fields, printed_tree
from kinsight.specs.convert import ConvertSpec, ToImageList
from kinsight.storage import Address

HEADER = "convert.json"
CLAIM = "convert.begun.json"
# What may differ between a job and its continuation: where it works, not what.
_MACHINE = ("output", "workers", "max_broken")
_LIST = "image-list"
_PICTURE = re.compile(r"[0-9]{9}\.[a-z0-9]+")
_REMOVED_AT_ONCE = 16


def listed(folder: Address) -> set[str]:
    """Names of the files in the output."""
    if not storage.is_directory(folder):
        return set()
    try:
        return {entry.relative for entry in storage.list_files(folder, recursive=False)}
    except StorageError as error:
        if error.code != "storage.not-found":
            raise
        return set()  # only folders below


def claim(spec: ConvertSpec, records: Records, folder: Address, *, overwrite: bool) -> None:
    """Make sure the output is ours. Raises SpecError unless it is free, unfinished and the same, or may be replaced."""
    there, begun = listed(folder), f".{spec.prefix}{CLAIM}"
    mine = {"spec": printed_tree(spec), "data": records.fingerprint}
    ours = _ours(spec.prefix)
    files = sorted(name for name in there if ours.fullmatch(name))
    field = f"output={folder}"
    if overwrite:
        header = spec.prefix + HEADER
        pictures = _pictures(spec, folder) if _was_list(folder, there, header, begun) else []
        _refuse_source(spec, records, {folder.child(name).uri for name in [*files, *pictures]}, field)
        for name in sorted(files, key=lambda name: (name != header, name != begun)):
            storage.remove(folder.child(name))
        with ThreadPoolExecutor(_REMOVED_AT_ONCE) as pool:
            list(pool.map(storage.remove, map(folder.child, pictures)))
    elif spec.prefix + HEADER in there:
        raise SpecError(
            "convert.finished",
            "holds a finished conversion",
            field=field,
            remedy="use it, choose another output or prefix, or --overwrite to convert anew",
        )
    elif begun in there:
        _refuse_other(json.loads(storage.read_text(folder.child(begun))), mine, field)
        if folder.is_local:
            storage.remove_left_aside(folder.local_path)
    elif files or (files := _pictures(spec, folder) if isinstance(spec.to, ToImageList) else []):
        raise SpecError(
            "convert.occupied",
            f"holds files of the names that are to be written, such as {files[0]}",
            field=field,
            remedy="choose another output or prefix, or --overwrite to replace them",
        )
    if overwrite or begun not in there:
        storage.write_text(folder.child(begun), json.dumps(mine, ensure_ascii=False))


def _was_list(folder: Address, there: set[str], header: str, begun: str) -> bool:
    """Whether the job that left its files here made an image list, so that pictures below are its own."""
    try:
        if header in there:
            return json.loads(storage.read_text(folder.child(header)))["kind"] == _LIST
        return begun in there and json.loads(storage.read_text(folder.child(begun)))["spec"]["to"]["kind"] == _LIST
    except (json.JSONDecodeError, TypeError, KeyError):  # not ours, or cut off
        return False


def _pictures(spec: ConvertSpec, folder: Address) -> list[str]:
    """Files, below the output, of the names that an image list gives to pictures it writes itself."""
    images = f"{spec.prefix}images"
    return sorted(f"{images}/{name}" for name in listed(folder.child(images)) if _PICTURE.fullmatch(name))


def _refuse_source(spec: ConvertSpec, records: Records, replaced: set[str], field: str) -> None:
    """Raise SpecError if what is to be replaced is what is to be converted."""
    read = [_whole_address(spec.data.path), *map(_whole_address, records.table["uri"].unique().to_pylist())]
    if own := {_whole_address(uri) for uri in replaced} & set(read):
        raise SpecError(
            "convert.own-source",
            f"holds what is to be converted, such as {Address.parse(min(own))}: it would be removed before it is read",
            field=field,
            remedy="choose another output or prefix",
        )


def _whole_address(uri: str) -> str:
    address = Address.parse(uri)
    return str(address.local_path.resolve()) if address.is_local else address.uri


def _refuse_other(before: dict[str, object], mine: dict[str, object], field: str) -> None:
    old, new = before["spec"], mine["spec"]
    assert isinstance(old, dict) and isinstance(new, dict)
    if differing := differing_fields(old, new, _MACHINE):
        raise SpecError(
            "convert.other-settings",
            f"holds a job of other settings: {'; '.join(differing)}",
            field=field,
            remedy="choose another output, or --overwrite to replace what is there",
        )
    if before["data"] != mine["data"]:
        raise SpecError(
            "convert.other-content",
            "was begun with other images or labels, though the settings are the same",
            field=field,
            remedy="choose another output, or --overwrite to begin anew",
        )


def _ours(prefix: str) -> re.Pattern[str]:
    p = re.escape(prefix)
    part = rf"(?:train|test)_[0-9]{{5,}}\.(?:{'|'.join(ENDINGS.values())})"
    whole = rf"label_map\.pbtxt|classes\.txt|{re.escape(HEADER)}|(?:train|test)\.(?:txt|parquet)"
    return re.compile(rf"{p}(?:{part}(?:\.idx)?|{whole})|\.{p}(?:{part}\.json|{re.escape(CLAIM)})")

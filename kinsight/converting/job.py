"""The `convert` job: labelled images in, files of another form out, a file at a time.

Which image goes where is a function of the images and the settings, and every file appears whole, so a job that was
stopped goes on behind the files that are done. Until the end a note per file says what became of its images; the header
`convert.json` comes last.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kinsight import __version__, progress, storage
from kinsight.converting.claim import CLAIM, HEADER, claim, listed
from kinsight.converting.part import Note, do_part, note_address, read_note
from kinsight.converting.plan import Part, plan
from kinsight.converting.wanted import wanted_records
from kinsight.data import Records
from kinsight.data.processes import over_records
from kinsight.data.sources.image_list import format_line
from kinsight.errors import DataError, InterruptedRun
from kinsight.evaluation.settings import printed_tree
from kinsight.specs.convert import ConvertSpec, ToImageList, ToShards, ToTFRecord
from kinsight.specs.load import of
from kinsight.storage import Address

FORMAT, VERSION = "kinsight-converted", 1
_NAMED = 5  # broken images that an error names
_KEPT = 1000  # broken images that the header names


def convert(spec: ConvertSpec | Mapping[str, Any], *, overwrite: bool = False) -> str:
    """Convert images; the same as `kinsight convert`. Returns the output's address.

    An unfinished output of the same settings is gone on with. overwrite: replace what an earlier job left there.
    Raises KinsightError: SpecError for an output in use, DataError past `max_broken` unusable images, StorageError,
    InterruptedRun after Ctrl-C.
    """
    spec = of(ConvertSpec, spec)
    storage.OutputDir(spec.output).check_writable()
    records = wanted_records(spec)
    folder = Address.parse(spec.output)
    claim(spec, records, folder, overwrite=overwrite)
    parts = plan(records, spec)
    try:
        notes = _do(spec, records, parts, folder)
    except KeyboardInterrupt:
        raise InterruptedRun(
            "convert.interrupted",
            "stopped; the files that are done stay",
            field=f"output={spec.output}",
            remedy="give the same command again to go on",
        ) from None
    _finish(spec, records, parts, notes, folder)
    return spec.output


def _do(spec: ConvertSpec, records: Records, parts: list[Part], folder: Address) -> list[Note]:
    """The notes of all parts in order, those of an earlier run among them."""
    there = listed(folder)
    known = {
        number: read_note(storage.read_text(note_address(folder, spec.prefix, part)))
        for number, part in enumerate(parts)
        if note_address(folder, spec.prefix, part).name in there
    }
    left = [number for number in range(len(parts)) if number not in known]
    if known:
        progress.say(f"going on     {len(known)} of {len(parts)} files are there already")
    broken = [pair for note in known.values() for pair in note.broken]
    _check_broken(broken, spec, len(records))
    with progress.task("convert", len(records), "images") as task:
        task.skip_to(sum(len(parts[number].row_N) for number in known))
        done = over_records(
            partial(do_part, spec),
            records,
            [parts[number] for number in left],
            min(spec.workers, len(left)),
            fork=folder.is_local and Address.parse(spec.data.path).is_local,
        )
        for number, note in zip(left, done, strict=True):
            known[number] = note
            broken += note.broken
            _check_broken(broken, spec, len(records))
            task.advance(len(parts[number].row_N))
    return [known[number] for number in range(len(parts))]


def _check_broken(broken: list[tuple[str, str]], spec: ConvertSpec, total: int) -> None:
    if len(broken) > spec.max_broken * total:
        first = "".join(f"\n  {uri}: {reason}" for uri, reason in broken[:_NAMED])
        more = f"\n  and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise DataError(
            "data.too-many-broken",
            f"{len(broken)} of {total} images cannot be used; {spec.max_broken:.3g} of them may be{first}{more}",
            field="max_broken",
            remedy="mend or remove them, or raise max_broken; the same command then goes on",
        )


def _finish(spec: ConvertSpec, records: Records, parts: list[Part], notes: list[Note], folder: Address) -> None:
    """What speaks of all files, then the header, then the notes go."""
    if isinstance(spec.to, ToTFRecord):
        storage.write_text(folder.child(f"{spec.prefix}label_map.pbtxt"), _label_map(records, spec.to.label_offset))
    storage.write_text(folder.child(f"{spec.prefix}classes.txt"), "".join(f"{name}\n" for name in records.class_names))
    uses = {use: _summary(spec, use, list(zip(parts, notes, strict=True)), folder) for use in ("train", "test")}
    broken = [pair for note in notes for pair in note.broken]
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kinsight": __version__,
        "kind": spec.to.kind,
        "class_names": records.class_names,
        **uses,
        "shrunk": sum(note.shrunk for note in notes),
        "num_broken": len(broken),
        "broken": broken[:_KEPT],
        "data_fingerprint": records.fingerprint,
        "spec": printed_tree(spec),
    }
    storage.write_text(folder.child(spec.prefix + HEADER), json.dumps(header, ensure_ascii=False, indent=1))
    for part in parts:
        storage.remove(note_address(folder, spec.prefix, part))
    storage.remove(folder.child(f".{spec.prefix}{CLAIM}"))
    _say(spec, uses, header)


def _summary(spec: ConvertSpec, use: str, done: list[tuple[Part, Note]], folder: Address) -> dict[str, Any]:
    """Images and files for one use; writes the list or table of all its images where the form has one."""
    mine = [(part, note) for part, note in done if part.use == use]
    files = [spec.prefix + part.name for part, note in mine if note.rows]
    entries = [entry for _, note in mine for entry in note.places]
    if isinstance(spec.to, ToImageList) and mine:
        files = [f"{spec.prefix}{use}.txt"]
        storage.write_text(folder.child(files[0]), "".join(f"{format_line(*entry)}\n" for entry in entries))
    if isinstance(spec.to, ToShards) and mine:
        _write_table(folder.child(f"{spec.prefix}{use}.parquet"), entries)
    return {"images": sum(note.rows for _, note in mine), "files": files}


def _write_table(place: Address, entries: Iterable[tuple[str, list[str]]]) -> None:
    images, labels = zip(*entries, strict=True) if entries else ((), ())
    table = pa.table({"image": pa.array(images, pa.string()), "label": pa.array(labels, pa.list_(pa.string()))})
    with storage.open_write(place) as file:
        pq.write_table(table, file)


def _label_map(records: Records, first: int) -> str:
    def quoted(name: str) -> str:
        return "'" + re.sub(r"(['\\])", r"\\\1", name).replace("\n", "\\n") + "'"

    items = enumerate(records.class_names, first)
    return "".join(f"item {{\n  id: {number}\n  name: {quoted(name)}\n}}\n" for number, name in items)


def _say(spec: ConvertSpec, uses: dict[str, dict[str, Any]], header: dict[str, Any]) -> None:
    for use, found in uses.items():
        if found["images"]:
            progress.say(
                f"{use:<12} {found['images']:,} images in {len(found['files']):,} files, {found['files'][0]} ..."
            )
    if header["shrunk"]:
        progress.say(f"shrunk       {header['shrunk']:,} images to {spec.max_image_size} pixels")
    if header["num_broken"]:
        progress.warn(
            f"{header['num_broken']:,} images cannot be used and are left out; named in {spec.prefix}{HEADER}"
        )
    progress.say(f"output       {spec.output}")

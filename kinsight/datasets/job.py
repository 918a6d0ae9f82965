"""The `data get` job.

FOLDER/files/ or images/    the pictures
FOLDER/train.txt, ...       lists: `test.txt`, or `query.txt` and `gallery.txt`
FOLDER/train.yaml           settings that `kinsight train --spec` takes as they are
FOLDER/dataset.json         what it is and where it came from; written last
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinsight import __version__, progress, storage
from kinsight.datasets.catalogue import DATA_SETS, DataSet
from kinsight.datasets.fetch import discard, fetch, origins, unpack
from kinsight.datasets.lists import MAKERS, write_list
from kinsight.datasets.settings import train_yaml
from kinsight.demo import symbols
from kinsight.errors import SpecError
from kinsight.specs.datasets import DataGetSpec
from kinsight.specs.load import of

FORMAT, VERSION, HEADER = "kinsight-dataset", 1, "dataset.json"
_DOWNLOADS, _CLAIM = "downloads", ".kinsight-get"
_SYMBOLS, _SEED = 1500, 0  # the demo's


def get(spec: DataGetSpec | Mapping[str, Any]) -> str:
    """Fetch a data set; the same as `kinsight data get`. Returns its folder.

    Goes on with what an interrupted call left; a finished set is taken as it is. Raises KinsightError: SpecError for a
    folder of something else, DataError for wrong checksums and evil archives, StorageError where nothing answers.
    """
    spec = of(DataGetSpec, spec)
    folder = _folder(spec)
    if not _finished(spec, folder):
        if spec.name == "symbols":
            numbers = _draw(folder)
        else:
            numbers = _fetch(spec, DATA_SETS[spec.name], folder)
        storage.write_text(folder / "train.yaml", train_yaml(spec.name, folder))
        _write_header(spec, folder, numbers)
    _show(spec, folder)
    return str(folder)


def _folder(spec: DataGetSpec) -> Path:
    address = storage.Address.parse(spec.output or f"data/{spec.name}")
    if not address.is_local:
        raise SpecError(
            "datasets.output",
            f"{address} is not local",
            field="output",
            remedy="fetch to a local folder and copy that, or keep the archives behind --mirror",
        )
    return address.local_path.absolute()


def _finished(spec: DataGetSpec, folder: Path) -> bool:
    """Whether the set is there. Raises SpecError where something else is."""
    with storage.local_errors(folder):
        if not folder.exists():
            return False
        header = folder / HEADER
        known = json.loads(storage.read_text(header)) if header.is_file() else {}
        claim = folder / _CLAIM
        claimed = storage.read_text(claim).strip() if claim.is_file() else known.get("name")
        if claimed is None and (folder / symbols.HEADER).is_file():
            claimed = "symbols"  # drawn, but interrupted before the rest
        empty = folder.is_dir() and not any(folder.iterdir())
    if not empty and claimed != spec.name:
        what = f"holds the data set {claimed}" if claimed else "holds something else"
        raise SpecError("datasets.output", what, field=f"output={folder}", remedy="choose another folder")
    if known and "archive" in spec.model_fields_set:
        progress.warn(f"{folder} is complete already; the archives were not looked at")
    return bool(known)


def _draw(folder: Path) -> dict[str, int]:
    with progress.task("draw symbols", None, "pictures") as task:

        def count(done: int, total: int) -> None:
            task.total = total
            task.advance(done - task.done)

        return symbols.draw_symbols(folder, classes=_SYMBOLS, seed=_SEED, progress=count).num_images


def _fetch(spec: DataGetSpec, wanted: DataSet, folder: Path) -> dict[str, int]:
    sources = origins(spec, wanted)
    progress.say(f"{wanted.title}\nterms       see {wanted.page}")
    storage.write_text(folder / _CLAIM, spec.name)
    downloads = folder / _DOWNLOADS
    files = {file.name: fetch(file, sources[file.name], downloads) for file in wanted.files}
    for file in wanted.files:
        if file.into is not None:
            unpack(files[file.name], folder / "files" / file.name.partition(".")[0])
    _unpack_inner(folder)
    lists = MAKERS[spec.name](folder, files)
    for name, rows in lists.items():
        write_list(folder, name, rows)
    if not spec.keep_archives:
        discard(downloads)
    return {name: len(rows) for name, rows in lists.items()}


def _unpack_inner(folder: Path) -> None:
    """Caltech 101 is an archive of archives, one of which holds the pictures."""
    for inner in sorted((folder / "files").glob("caltech-101/**/101_ObjectCategories.tar.gz")):
        unpack(inner, folder / "files" / "101_ObjectCategories")


def _write_header(spec: DataGetSpec, folder: Path, numbers: dict[str, int]) -> None:
    wanted = DATA_SETS.get(spec.name)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kinsight": __version__,
        "name": spec.name,
        "title": wanted.title if wanted else "symbols of the demo",
        "page": wanted.page if wanted else None,
        "files": {file.name: file.md5 for file in wanted.files} if wanted else {},
        "images": numbers,
    }
    storage.write_text(folder / HEADER, json.dumps(header, indent=1, ensure_ascii=False) + "\n")
    storage.remove(folder / _CLAIM)


def _show(spec: DataGetSpec, folder: Path) -> None:
    numbers = json.loads(storage.read_text(folder / HEADER))["images"]
    for name, count in numbers.items():
        progress.say(f"{name:<12}{count:,} images in {folder / name}.txt")
    progress.say(f"\n$ kinsight train --spec {shlex.quote(str(folder / 'train.yaml'))}")
    test = ["--data.path", str(folder / "test.txt")]
    if "query" in numbers:
        test = ["--data.path", str(folder / "query.txt"), "--gallery.path", str(folder / "gallery.txt")]
    words = ["--bundle", str(folder / "run"), *test, "--output", str(folder / "evaluation")]
    progress.say(f"$ kinsight evaluate {shlex.join(words)}")

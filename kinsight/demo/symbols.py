"""The embedded set: pictures of symbols, lists of them, and which classes are seen in training.

    python -m kinsight.demo.symbols FOLDER

FOLDER/images/<code point>/<n>.png    32x32 grey
FOLDER/train.txt                      half of the classes: seen
FOLDER/validation.txt                 a fifth of the others: unseen, to choose the best model by
FOLDER/test.txt                       the rest: unseen, to report
FOLDER/all.csv                        every picture: image, label, character, name, also, ordinary
FOLDER/classes.tsv                    label, character, part, also, name
also                                  further characters of the same form, which this class stands for too
ordinary                              yes for what people draw first, else empty
FOLDER/symbols.json                   settings and counts
"""

import argparse
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kinsight.demo.alphabet import Symbol, alphabet, always_drawn
from kinsight.demo.distort import Distortion, distort
from kinsight.demo.forms import INK
from kinsight.demo.glyphs import FIT, glyph
from kinsight.demo.png import png
from kinsight.demo.pool import ordered_map
from kinsight.demo.thinning import thin, widen
from kinsight.errors import KinsightError, RunError, SpecError

SIDE = 32
FORMAT = "kinsight-symbols"
VERSION = 4
HEADER = "symbols.json"
PARTS = ("train", "validation", "test")
# Pictures of a class as a hand with a round pen leaves them, the others as type; without pictures of the one kind, the
# network would not know that it shows the same symbols as the other.
PEN_SHARE = 0.3
_PEN_RADIUS = 2.6  # pixels of a glyph: a line of a tenth of its longer side, as the search page draws
_BY_HAND = Distortion(rotate_deg=12.0, slant=0.22, warp=2.0, blur=(0.25, 0.6), noise=(0.0, 8.0))
_CHUNK = 12  # classes a process draws between two reports of progress

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SymbolSet:
    """A drawn set. Paths lie in `folder`; `num_classes` and `num_images` are per part, in the order of PARTS."""

    folder: Path
    num_classes: dict[str, int]
    num_images: dict[str, int]

    @property
    def train(self) -> Path:
        return self.folder / "train.txt"

    @property
    def validation(self) -> Path:
        return self.folder / "validation.txt"

    @property
    def test(self) -> Path:
        return self.folder / "test.txt"

    @property
    def all(self) -> Path:
        return self.folder / "all.csv"

    @property
    def classes(self) -> Path:
        return self.folder / "classes.tsv"


def draw_symbols(
    output: Path,
    *,
    classes: int,
    seed: int,
    images: int = 16,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SymbolSet:
    """Draw `classes` classes with `images` pictures each into the folder `output`; both parts of the seed's choice.

    The same settings give the same bytes, whatever `workers` (default: one per core), and a finished folder of theirs
    is taken as it is. The folder appears only once everything is drawn. progress(done, total) counts pictures.
    Raises SpecError for more classes than there are, or an output folder that holds something else; RunError if the
    folder cannot be written.
    """
    _check_counts(classes, images)
    settings = {"format": FORMAT, "version": VERSION, "classes": classes, "images": images, "seed": seed}
    finished = _read_header(output)
    if finished is not None and finished["settings"] == settings and _complete(output, finished):
        return SymbolSet(output, finished["num_classes"], finished["num_images"])
    _check_free(output)
    aside = output.with_name(output.name + ".drawing")
    try:
        _remove(aside)
        (aside / "images").mkdir(parents=True)
        drawn = _draw(aside, split(classes, seed), settings, images, workers or os.cpu_count() or 1, progress)
        _remove(output)
        aside.rename(output)
    except OSError as error:
        raise RunError(
            "demo.not-written",
            f"{error.filename or output}: {error.strerror or error}",
            field="output",
            remedy="choose a folder that can be written, with about 120 MB free",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return SymbolSet(output, drawn["num_classes"], drawn["num_images"])


def split(classes: int, seed: int) -> dict[str, list[Symbol]]:
    """Which symbols are drawn, by part; no symbol in two parts. A function of the two numbers only.

    What is `always_drawn` is chosen before anything else, and falls to the parts by chance as the rest.
    """
    table, first = alphabet(), always_drawn()
    rng = np.random.default_rng([seed, len(table)])
    mixed = rng.permutation(len(table))
    rare = np.array([table[row].code not in first for row in mixed])
    chosen = rng.permutation(mixed[np.argsort(rare, kind="stable")][:classes])
    seen = classes // 2
    held = max(1, (classes - seen) // 5)
    bounds = {"train": (0, seen), "validation": (seen, seen + held), "test": (seen + held, classes)}
    return {part: [table[row] for row in np.sort(chosen[low:high])] for part, (low, high) in bounds.items()}


def pictures(symbol: Symbol, *, seed: int, images: int) -> np.ndarray:
    """A class's pictures, [images, SIDE, SIDE] uint8: its faces in turn, then those drawn by pen, each distorted anew.
    Pure.
    """
    rng = np.random.default_rng([seed, symbol.code])
    by_pen = round(images * PEN_SHARE) if symbol.pens else 0
    turn = rng.permutation(len(symbol.faces))
    faces = [symbol.faces[turn[n % len(turn)]] for n in range(images - by_pen)]
    ink = {face: _ink(face, symbol.code) for face in dict.fromkeys((*faces, *symbol.pens))}
    printed = distort(np.stack([ink[face] for face in faces]), rng, side=SIDE, fit=FIT)
    if not by_pen:
        return printed
    line_NSS = thin(np.stack([ink[face] > INK for face in symbol.pens]))
    pen = [0 if n % 2 == 0 else 1 + (n // 2) % max(1, len(symbol.pens) - 1) for n in range(by_pen)]  # half the plainest
    drawn_NSS = widen(line_NSS, _PEN_RADIUS)[np.minimum(pen, len(symbol.pens) - 1)].astype(np.uint8) * 255
    return np.concatenate([printed, distort(drawn_NSS, rng, side=SIDE, fit=FIT, how=_BY_HAND)])


def _ink(face: str, code: int) -> np.ndarray:
    ink = glyph(face, code)
    if ink is None:
        raise RunError(
            "demo.other-fonts",
            f"{face} draws nothing for U+{code:04X}: other fonts came with matplotlib when the symbols were chosen",
            remedy="python -m kinsight.demo.alphabet chooses them anew",
        )
    return ink


def _check_counts(classes: int, images: int) -> None:
    available = len(alphabet())
    if not 4 <= classes <= available:
        raise SpecError(
            "demo.classes",
            f"{classes}: expected 4 to {available} symbol classes",
            field="classes",
            remedy=f"ask for at most {available}",
        )
    if images < 2:
        raise SpecError("demo.images", f"{images}: a class needs 2 pictures at least", field="images")


def _check_free(output: Path) -> None:
    if output.exists() and not _ours(output):
        raise SpecError(
            "demo.occupied",
            f"{output}: holds something other than drawn symbols",
            field="output",
            remedy="choose an empty or a new folder",
        )


def _draw(
    folder: Path,
    parts: dict[str, list[Symbol]],
    settings: dict[str, int | str],
    images: int,
    workers: int,
    progress: Progress | None,
) -> dict[str, dict[str, int]]:
    symbols = [symbol for part in PARTS for symbol in parts[part]]
    chunks = [symbols[start : start + _CHUNK] for start in range(0, len(symbols), _CHUNK)]
    work = partial(_write_classes, folder / "images", seed=int(settings["seed"]), images=images)
    done = 0
    for written in ordered_map(work, chunks, workers):
        done += written
        if progress is not None:
            progress(done, len(symbols) * images)
    for part in PARTS:
        lines = (f"images/{s.code:04x}/{n}.png {s.label}\n" for s in parts[part] for n in range(images))
        (folder / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "all.csv").write_text(_picture_table(symbols, images), encoding="utf-8")
    (folder / "classes.tsv").write_text(_class_table(parts), encoding="utf-8")
    counts = {
        "num_classes": {part: len(parts[part]) for part in PARTS},
        "num_images": {part: len(parts[part]) * images for part in PARTS},
    }
    (folder / HEADER).write_text(json.dumps({"settings": settings, **counts}, indent=2) + "\n", encoding="utf-8")
    return counts


def _write_classes(folder: Path, symbols: list[Symbol], *, seed: int, images: int) -> int:
    for symbol in symbols:
        place = folder / f"{symbol.code:04x}"
        place.mkdir()
        for n, picture in enumerate(pictures(symbol, seed=seed, images=images)):
            (place / f"{n}.png").write_bytes(png(picture))
    return len(symbols) * images


def _class_table(parts: dict[str, list[Symbol]]) -> str:
    rows = ["label\tcharacter\tpart\talso\tname\n"]
    for part in PARTS:
        for symbol in parts[part]:
            alike = " ".join(map(chr, symbol.alike))
            rows.append(f"{symbol.label}\t{chr(symbol.code)}\t{part}\t{alike}\t{symbol.title}\n")
    return "".join(rows)


def _picture_table(symbols: list[Symbol], images: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "character", "name", "also", "ordinary"])
    for symbol in symbols:
        also, ordinary = " ".join(map(chr, symbol.alike)), "yes" if symbol.is_ordinary else ""
        about = [symbol.label, chr(symbol.code), symbol.title, also, ordinary]
        writer.writerows([f"images/{symbol.code:04x}/{n}.png", *about] for n in range(images))
    return text.getvalue()


def _ours(folder: Path) -> bool:
    """Empty, or nothing but a drawn set: only such a folder is ever replaced."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
    known = {"images", HEADER, "all.csv", "classes.tsv", *(f"{part}.txt" for part in PARTS)}
    return not names or (names <= known and _read_header(folder) is not None)


def _read_header(folder: Path) -> dict | None:
    """The header of a finished set; None if there is none or it is not one."""
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        return header if header["settings"]["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _complete(folder: Path, header: dict) -> bool:
    """Every picture of every list is there: someone may have tidied up."""
    if not (folder / "all.csv").is_file():
        return False
    for part in PARTS:
        file = folder / f"{part}.txt"
        listed = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        if len(listed) != header["num_images"][part]:
            return False
        if not all((folder / line.rpartition(" ")[0]).is_file() for line in listed):
            return False
    return True


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def main() -> None:
    """The command line: draw into a folder, exit code 0, or 1 with the reason."""
    parser = argparse.ArgumentParser(prog="python -m kinsight.demo.symbols", description="Draw the embedded symbols.")
    parser.add_argument("output", type=Path, help="new folder to draw into")
    parser.add_argument("--classes", type=int, default=1500, help="symbol classes, half of them unseen (1500)")
    parser.add_argument("--images", type=int, default=16, help="pictures of each class (16)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice and the distortions (0)")
    given = parser.parse_args()
    try:
        drawn = draw_symbols(given.output, classes=given.classes, images=given.images, seed=given.seed)
    except KinsightError as error:
        sys.exit(str(error))
    for part in PARTS:
        sys.stdout.write(
            f"{drawn.folder / part}.txt: {drawn.num_images[part]} pictures of {drawn.num_classes[part]} classes\n"
        )


if __name__ == "__main__":
    main()

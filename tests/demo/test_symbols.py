"""The embedded set: which characters are classes, what is drawn, and that it is drawn whole or not at all."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinsight.demo.alphabet import (
    ALIKE,
    CYRILLIC,
    ORDINARY,
    TABLE,
    alphabet,
    always_drawn,
    find_symbols,
    format_table,
)
from kinsight.demo.forms import study
from kinsight.demo.glyphs import candidates, distances, family, glyph, signatures
from kinsight.demo.symbols import HEADER, PARTS, SIDE, draw_symbols, pictures, split
from kinsight.errors import RunError, SpecError
from kinsight.specs.demo import DemoSpec

ONE_DESIGN = set("★♥♠♣♦✓✗")  # the fonts draw these in one way
# Characters that a person would take for each other once size and place are gone; every other one stands for itself.
TWINS = ("Cc", "Il|", "Oo0", "Ss", "Vv", "Ww", "Xx×", "Zz")
WANTED = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789←↑→↓↔+-=≠<>≤≥×÷%&@#$€£?!*/\\~∞√∑∫πΩαβγδλμσφω♥★☺✓✗"
)


def drawn(face: str, text: str) -> np.ndarray:
    ink = glyph(face, ord(text))
    assert ink is not None
    return signatures(ink[None])


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("symbols") / "set"
    draw_symbols(folder, classes=40, seed=7, images=5, workers=1)
    return folder


def test_there_are_enough_classes_and_faces() -> None:
    symbols = alphabet()
    assert len(symbols) >= 1500
    assert {chr(symbol.code) for symbol in symbols if len(symbol.faces) < 2} == ONE_DESIGN
    assert sum(len({family(face) for face in symbol.faces}) >= 2 for symbol in symbols) >= 1000
    assert len({symbol.label for symbol in symbols}) == len(symbols)


@pytest.mark.parametrize("char", WANTED)
def test_what_people_draw_first_is_found(char: str) -> None:
    allowed = {char}.union(*(set(twins) for twins in TWINS if char in twins))
    answers = {chr(symbol.code) for symbol in alphabet() if ord(char) in (symbol.code, *symbol.alike)}
    assert len(answers) == 1 and answers <= allowed


@pytest.mark.parametrize("pair", ["80", "90", "←_", "→_", "oD", "GB", "HB", "FE", "~_", "hb", "ΩD", "σ°"])
def test_what_nobody_would_confuse_is_apart(pair: str) -> None:
    answers = [{s.code for s in alphabet() if ord(char) in (s.code, *s.alike)} for char in pair]
    assert all(answers) and not answers[0] & answers[1]


def test_a_character_has_one_place_in_the_table() -> None:
    places = [code for symbol in alphabet() for code in (symbol.code, *symbol.alike)]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_what_people_draw_first_is_always_drawn_in_every_part(seed: int) -> None:
    parts = {part: {s.code for s in symbols} for part, symbols in split(1500, seed).items()}
    assert always_drawn() <= set().union(*parts.values())
    first = {part: len(codes & always_drawn()) / len(always_drawn()) for part, codes in parts.items()}
    assert 0.3 < first["train"] < 0.7 and first["validation"] > 0.02 and first["test"] > 0.2
    assert {ord(char) for char in (*WANTED, *ORDINARY, *CYRILLIC)} <= {
        code for s in alphabet() if s.code in always_drawn() for code in (s.code, *s.alike)
    }


def test_bounds_of_the_setting_follow_the_table() -> None:
    assert any(getattr(bound, "le", None) == len(alphabet()) for bound in DemoSpec.model_fields["classes"].metadata)
    assert set(WANTED) <= set(ORDINARY)


def test_only_visible_characters_that_stand_alone() -> None:
    characters = [chr(symbol.code) for symbol in alphabet()]
    assert {unicodedata.category(char)[0] for char in characters} <= set("LNPS")
    assert not [char for char in characters if unicodedata.normalize("NFKC", char) == "R" != char]  # a style of R


@pytest.mark.parametrize("char", "ΛИПΠптĦꓕ⋿⤫𐌕")
def test_a_form_of_its_own_is_a_class_of_its_own(char: str) -> None:
    """Against a rule that sees areas: П is Π's twin, and no other of these is a Latin letter's."""
    place = next(symbol for symbol in alphabet() if ord(char) in (symbol.code, *symbol.alike))
    assert chr(place.code) == {"П": "Π"}.get(char, char)


def test_a_classes_name_is_its_most_ordinary_character() -> None:
    named = {chr(symbol.code): set(map(chr, symbol.alike)) for symbol in alphabet()}
    assert {"Т", "Τ", "ᵀ"} <= named["T"] and {"Е", "Ε"} <= named["E"] and {"Χ", "Х"} <= named["X"]
    assert not {"п", "И", "Ħ", "Π"} & named["H"] and not {"Λ", "∧", "Ѧ"} & named["A"]
    ordinary = set(ORDINARY)
    assert not [name for name, alike in named.items() if name not in ordinary and alike & ordinary]
    assert max(len(alike) for name, alike in named.items() if name in ordinary) < 30


@pytest.mark.parametrize("face", ["cmss10", "STIXGeneralItalic"])
def test_no_class_holds_another_characters_form_in_one_face_only(face: str) -> None:
    """The rule itself, face by face: what stands beside a class has its form here too, but for sizes of a letter."""
    known = study(face)
    here = set(known.codes)
    for symbol in alphabet():
        for other in symbol.alike:
            if {symbol.code, other} <= here and not _one_letter(symbol.code, other):
                assert (min(symbol.code, other), max(symbol.code, other)) in known.same, (symbol, chr(other))


def _one_letter(one: int, other: int) -> bool:
    plain = [unicodedata.normalize("NFKC", chr(code)).lower() for code in (one, other)]
    return plain[0] == plain[1] or "SMALL CAPITAL" in unicodedata.name(chr(other), "")


def test_faces_of_a_class_differ() -> None:
    for symbol in alphabet()[::9]:
        picture = np.concatenate([drawn(face, chr(symbol.code)) for face in symbol.faces])
        apart = distances(picture, picture)
        assert (apart[~np.eye(len(picture), dtype=bool)] >= ALIKE).all()


@pytest.mark.parametrize(("one", "other"), [("A", "Α"), ("A", "А"), ("c", "C"), (".", "·"), ("o", "O")])
def test_characters_drawn_alike_are_one_class(one: str, other: str) -> None:
    assert not {ord(one), ord(other)} <= {symbol.code for symbol in alphabet()}


def test_a_pen_leaves_lines_of_one_width() -> None:
    symbol = next(symbol for symbol in alphabet() if symbol.code == ord("T"))
    assert symbol.pens[0] == "DejaVuSans"
    assert not next(symbol for symbol in alphabet() if symbol.code == ord("★")).pens  # a pen would have to fill it
    by_pen = pictures(symbol, seed=0, images=40)[-12:].astype(float)
    shade = np.percentile(by_pen, 95, axis=(1, 2), keepdims=True) - by_pen
    ink = (shade > shade.max(axis=(1, 2), keepdims=True) / 2).sum((1, 2))
    assert 50 < np.median(ink) < 150 and ink.min() > 20  # of 1,024 pixels


def test_distance_is_exact_and_symmetric() -> None:
    picture = signatures(np.stack([ink for code in range(65, 91) if (ink := glyph("DejaVuSans", code)) is not None]))
    apart = distances(picture, picture)
    wide = picture.astype(np.float64)
    expected = ((wide[:, None] - wide[None]) ** 2).sum(2) / ((wide**2).sum(1)[:, None] + (wide**2).sum(1)[None])
    assert np.array_equal(apart, apart.T)
    np.testing.assert_allclose(apart, expected, rtol=1e-6, atol=0)


def test_faces_of_tex_give_letters_and_digits_only() -> None:
    assert "".join(map(chr, candidates("cmr10"))).isalnum()
    assert glyph("DejaVuSans", 0x20) is None


@pytest.mark.slow
def test_the_shipped_table_is_what_the_rule_yields() -> None:
    assert format_table(find_symbols(workers=2)) == TABLE.read_text(encoding="ascii")


@pytest.mark.parametrize("classes", [4, 20, 1500])
def test_parts_are_disjoint_and_follow_the_seed(classes: int) -> None:
    parts = split(classes, 3)
    codes = [symbol.code for part in PARTS for symbol in parts[part]]
    assert len(codes) == len(set(codes)) == classes
    assert len(parts["train"]) == classes // 2
    assert all(parts[part] for part in PARTS)
    assert split(classes, 3) == parts
    assert split(classes, 4) != parts


def test_lists_name_every_picture_with_its_class(small: Path) -> None:
    labels: dict[str, set[str]] = {}
    listed = []
    for part in PARTS:
        for line in (small / f"{part}.txt").read_text(encoding="utf-8").splitlines():
            uri, label = line.rsplit(" ", 1)
            with Image.open(small / uri) as image:
                assert image.size == (SIDE, SIDE) and image.mode == "L"
                image.load()
            assert label == f"U+{uri.split('/')[1].upper()}"
            labels.setdefault(part, set()).add(label)
            listed.append(uri)
    assert len(listed) == len(set(listed)) == 40 * 5
    assert sorted(listed) == sorted(str(path.relative_to(small)) for path in (small / "images").rglob("*.png"))
    assert not labels["train"] & (labels["validation"] | labels["test"])
    assert not labels["validation"] & labels["test"]


def test_class_table_names_every_class(small: Path) -> None:
    head, *rows = (line.split("\t") for line in (small / "classes.tsv").read_text(encoding="utf-8").split("\n")[:-1])
    assert head == ["label", "character", "part", "also", "name"]
    assert len(rows) == 40
    for label, character, part, _, name in rows:
        assert label == f"U+{ord(character):04X}"
        assert part in PARTS
        assert name == unicodedata.name(character, "unnamed")


def test_same_settings_same_bytes_whatever_the_workers(small: Path, tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    drawing = draw_symbols(
        tmp_path / "again", classes=40, seed=7, images=5, workers=2, progress=lambda *at: counted.append(at)
    )
    assert contents(tmp_path / "again") == contents(small)
    assert drawing.num_classes == {"train": 20, "validation": 4, "test": 16}
    assert drawing.num_images == {"train": 100, "validation": 20, "test": 80}
    assert all(path.is_file() for path in (drawing.train, drawing.validation, drawing.test, drawing.classes))
    assert counted == sorted(counted) and counted[-1] == (200, 200)


def test_pictures_vary_and_show_ink() -> None:
    symbol = next(symbol for symbol in alphabet() if symbol.code == ord("A"))
    first = pictures(symbol, seed=0, images=16)
    assert np.array_equal(first, pictures(symbol, seed=0, images=16))
    assert not np.array_equal(first, pictures(symbol, seed=1, images=16))
    assert len({picture.tobytes() for picture in first}) == 16
    paper, ink = np.percentile(first, 90, axis=(1, 2)), np.percentile(first, 3, axis=(1, 2))
    assert (paper - ink > 50).all()


def test_a_finished_set_is_taken_as_it_is(small: Path) -> None:
    before = (small / HEADER).stat().st_mtime_ns
    draw_symbols(small, classes=40, seed=7, images=5, workers=1)
    assert (small / HEADER).stat().st_mtime_ns == before


def test_other_settings_or_a_lost_picture_draw_anew(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    draw_symbols(folder, classes=6, seed=0, images=2, workers=1)
    first = contents(folder)
    next((folder / "images").rglob("*.png")).unlink()
    draw_symbols(folder, classes=6, seed=0, images=2, workers=1)
    assert contents(folder) == first
    (folder / "test.txt").unlink()
    draw_symbols(folder, classes=6, seed=0, images=2, workers=1)
    assert contents(folder) == first
    draw_symbols(folder, classes=6, seed=1, images=2, workers=1)
    assert contents(folder) != first
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_interrupted_in_the_process(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_symbols(tmp_path / "set", classes=40, seed=0, images=2, workers=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
from pathlib import Path
import sys
from kinsight.demo.symbols import draw_symbols
if __name__ == "__main__":
    draw_symbols(Path(sys.argv[1]), classes=1500, seed=0, workers=2, progress=lambda *at: print(*at, flush=True))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_from_outside(tmp_path: Path, how: signal.Signals) -> None:
    """Nothing looks finished, no process stays, and drawing again works."""
    script = tmp_path / "draw.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "set")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        if how is signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does: to the children too
        else:
            process.kill()
        assert process.wait(30) != 0
    deadline = time.monotonic() + 20
    while _group_alive(process.pid):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(0.05)
    assert not (tmp_path / "set").exists()
    draw_symbols(tmp_path / "set", classes=4, seed=0, images=2, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draw.py", "set"]


def _group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    states = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if _in_group(path, group)]
    return any(state.rpartition(")")[2].split()[0] != "Z" for state in states)  # ended ones may wait for init


def _in_group(stat: Path, group: int) -> bool:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[2]) == group
    except (OSError, IndexError):
        return False


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"4 to {len(alphabet())}"):
        draw_symbols(tmp_path / "set", classes=100_000, seed=0)
    with pytest.raises(SpecError, match="2 pictures"):
        draw_symbols(tmp_path / "set", classes=4, seed=0, images=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(SpecError, match="something other"):
        draw_symbols(tmp_path / "mine", classes=4, seed=0)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    draw_symbols(tmp_path / "ours", classes=4, seed=0, images=2, workers=1)
    (tmp_path / "ours" / "notes.txt").write_text("mine too")
    with pytest.raises(SpecError, match="something other"):
        draw_symbols(tmp_path / "ours", classes=4, seed=1, images=2, workers=1)
    with pytest.raises(RunError, match="Not a directory"):
        draw_symbols(tmp_path / "mine" / "thesis.txt" / "set", classes=4, seed=0, images=2, workers=1)


def test_command_line_draws_the_same(small: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kinsight.demo.symbols", str(tmp_path / "set")]
    settings = ["--classes", "40", "--images", "5", "--seed", "7"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "train.txt: 100 pictures of 20 classes" in done.stdout
    assert contents(tmp_path / "set") == contents(small)
    refused = subprocess.run([*command, "--classes", "1"], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1 and "expected 4 to" in refused.stderr

"""`kinsight data check` on small sets with one fault of each kind."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from faulty_set import Faulty, drawing, encoded, photo, png_header
from PIL import Image

from kinsight.checking import CheckResult, check
from kinsight.cli import main
from kinsight.data import read_records
from kinsight.errors import DataError, SpecError
from kinsight.specs.check import FINDINGS
from kinsight.specs.data import Csv, ImageList


def run(tmp_path: Path, faulty: Faulty, **settings: object) -> CheckResult:
    base = {"data": {"path": faulty.list()}, "output": str(tmp_path / "check"), "workers": 0}
    return check({**base, **settings})


def named(result: CheckResult, finding: str) -> list[str]:
    records = result.findings.joint.records
    return [Path(records.uri(row.image)).name for row in result.findings.rows[finding]]  # type: ignore[index]


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path / "set").plain(9)


def test_a_clean_set_has_no_findings(tmp_path: Path, faulty: Faulty):
    result = run(tmp_path, faulty)
    assert [name for name in FINDINGS if result.findings.rows[name]] == []
    assert result.numbers["data.images"] == 9 and result.numbers["data.classes"] == 3
    assert result.numbers["leaks"] is None and "validation" in result.numbers["not_looked"]["leaks"]


def test_each_fault_of_a_single_image_is_named(tmp_path: Path, faulty: Faulty):
    rng = np.random.default_rng(0)
    deep = Image.fromarray(rng.integers(0, 65536, (40, 40)).astype(np.uint16))
    rotated = photo(50)
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = photo(51).convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.arange(96, dtype=np.uint8), (72, 1))))
    opaque = photo(58).convert("RGBA")
    label = "class 0"
    faulty.add("gone.jpg", None, label)
    faulty.add("cut.jpg", encoded(photo(52))[:900], label)
    faulty.add("text.jpg", b"not an image", label)
    faulty.add("empty.png", b"", label)
    faulty.add("bomb.png", png_header(50_000, 50_000), label)
    faulty.add("tiny.png", encoded(photo(53, size=(30, 9)), "PNG"), label)
    faulty.add("blank.jpg", encoded(Image.new("RGB", (60, 60), (200, 30, 40))), label)
    faulty.add("long.png", encoded(photo(54, size=(300, 40)), "PNG"), label)
    faulty.add("deep.png", encoded(deep, "PNG"), label)
    faulty.add("cmyk.jpg", encoded(photo(55).convert("CMYK")), label)
    faulty.add("rotated.jpg", encoded(rotated, exif=exif), label)
    faulty.add("moving.gif", encoded(photo(56), "GIF", save_all=True, append_images=[photo(57)]), label)
    faulty.add("clear.png", encoded(clear, "PNG"), label)
    faulty.add("opaque.png", encoded(opaque, "PNG"), label)
    faulty.add("really-a.png", encoded(photo(59)), label)
    faulty.add("nolabel.jpg", encoded(photo(60)))
    faulty.add("lonely.jpg", encoded(photo(61)), "class of one")
    faulty.add("large.png", encoded(photo(62, size=(400, 300)), "PNG"), label)
    result = run(tmp_path, faulty, huge=0.1)
    expected = {
        "missing": ["gone.jpg"],
        "broken": ["cut.jpg", "text.jpg", "empty.png", "bomb.png"],
        "tiny": ["tiny.png"],
        "huge": ["large.png"],
        "blank": ["blank.jpg"],
        "aspect": ["long.png"],
        "deep": ["deep.png"],
        "cmyk": ["cmyk.jpg"],
        "rotated": ["rotated.jpg"],
        "animated": ["moving.gif"],
        "transparent": ["clear.png"],
        "suffix": ["really-a.png"],
        "unlabelled": ["nolabel.jpg"],
        "singletons": ["lonely.jpg"],
    }
    assert {name: named(result, name) for name in FINDINGS if result.findings.rows[name]} == expected
    reasons = {Path(row["image"]).name: row["detail"] for row in _csv(tmp_path) if row["finding"] == "broken"}
    assert "empty" in reasons["empty.png"] and "50000" in reasons["bomb.png"] and "truncated" in reasons["cut.jpg"]


def _csv(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "check" / "findings.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def copies_of(original: Image.Image) -> dict[str, bytes]:
    width, height = original.size
    brighter = original.point(lambda value: min(255, round(value * 1.15)))
    part = original.crop((width // 10, height // 12, width, height - height // 8))
    return {
        "anew.jpg": encoded(original.convert("L" if original.mode == "L" else "RGB"), quality=45),
        "small.png": encoded(original.resize((width * 6 // 10, height * 6 // 10), Image.Resampling.BICUBIC), "PNG"),
        "bright.jpg": encoded(brighter, quality=80),
        "crop.jpg": encoded(part, quality=80),
    }


@pytest.mark.parametrize("draw", [photo, drawing])
def test_copies_are_told_from_other_pictures(draw, tmp_path: Path):
    faulty = Faulty(tmp_path / "set")
    for n in range(40):
        faulty.add(f"{n}.png", encoded(draw(n), "PNG"), f"c{n % 4}")
    faulty.add("bytes.png", encoded(draw(3), "PNG"), "c3")
    faulty.add("pixels.bmp", encoded(draw(4), "BMP"), "c0")
    copies = copies_of(draw(5))
    for name, data in copies.items():
        faulty.add(name, data, "c1")
    result = run(tmp_path, faulty)
    assert set(named(result, "duplicates")) == {"bytes.png", "pixels.bmp", *copies}
    original = {Path(row["image"]).name: Path(row["other"]).name for row in _csv(tmp_path)}
    assert original == {"bytes.png": "3.png", "pixels.bmp": "4.png", **dict.fromkeys(copies, "5.png")}
    details = {Path(row["image"]).name: row["detail"] for row in _csv(tmp_path)}
    assert (details["bytes.png"], details["pixels.bmp"]) == ("same file", "same pixels")
    assert not run(tmp_path, faulty, near=False).findings.rows["duplicates"][2:]


def test_the_same_picture_in_another_colour_is_no_copy(tmp_path: Path, faulty: Faulty):
    red, green, blue = photo(1).split()
    faulty.add("recoloured.png", encoded(Image.merge("RGB", (green, red, blue)).convert("RGB"), "PNG"), "class 1")
    grey = Image.merge("RGB", (photo(2).convert("L"),) * 3)
    tinted = Image.merge("RGB", (grey.getchannel(0), grey.getchannel(0).point(lambda v: v // 2), grey.getchannel(0)))
    faulty.add("green.png", encoded(tinted, "PNG"), "class 2").add("grey.png", encoded(grey, "PNG"), "class 2")
    assert "recoloured.png" not in named(run(tmp_path, faulty), "duplicates")


def test_copies_mean_what_their_labels_and_sets_say(tmp_path: Path, faulty: Faulty):
    held = Faulty(tmp_path / "held").plain(6, first=20)
    faulty.add("again.jpg", encoded(photo(0), quality=50), "class 0")
    faulty.add("other.jpg", encoded(photo(1), quality=50), "class 0")
    faulty.add("leak.jpg", encoded(photo(22), quality=50), "class 0")
    faulty.add("leaked-file.jpg", (held.folder / "plain23.jpg").read_bytes(), "class 2")
    faulty.rows.append(faulty.rows[2])
    result = run(tmp_path, faulty, validation={"path": held.list()})
    assert named(result, "duplicates") == ["again.jpg"]
    assert named(result, "conflicts") == ["other.jpg"]
    assert named(result, "repeats") == ["plain2.jpg"]
    assert named(result, "leaks") == ["leak.jpg", "leaked-file.jpg"]
    assert result.numbers["validation.duplicates"] == 0 and result.numbers["classes_shared"] == 3


def test_validation_that_is_the_training_set_leaks_whole(tmp_path: Path, faulty: Faulty):
    result = run(tmp_path, faulty, validation={"path": faulty.list()})
    assert result.numbers["leaks"] == 9 and result.numbers["duplicates"] == 0


def test_a_repeated_image_with_another_label_is_a_conflict(tmp_path: Path, faulty: Faulty):
    faulty.add("plain0.jpg", None, "class 1")
    result = run(tmp_path, faulty)
    assert named(result, "conflicts") == ["plain0.jpg"] and not result.findings.rows["repeats"]


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_the_cleaned_list_leaves_out_what_it_was_told_to(suffix: str, tmp_path: Path, faulty: Faulty):
    faulty.add("cut.jpg", encoded(photo(52))[:900], "class 0")
    faulty.add("again.jpg", encoded(photo(0), quality=50), "class 0")
    faulty.add("other.jpg", encoded(photo(1), quality=50), "class 0")
    faulty.add("odd name, 1.jpg", encoded(photo(70)), "a, b", "<c>")
    before = {path.name: path.read_bytes() for path in faulty.folder.iterdir()}
    cleaned = tmp_path / f"clean.{suffix}"
    run(tmp_path, faulty, cleaned=str(cleaned), drop=["broken", "duplicates", "conflicts"])
    source = Csv(path=str(cleaned)) if suffix == "csv" else ImageList(path=str(cleaned))
    records = read_records(source)
    kept = {Path(records.uri(i)).name: [records.class_names[c] for c in records.labels(i)] for i in range(len(records))}
    wanted = {f"plain{n}.jpg": [f"class {n % 3}"] for n in range(9) if n != 1}
    assert kept == {**wanted, "odd name, 1.jpg": ["a, b", "<c>"]}
    after = {path.name: path.read_bytes() for path in faulty.folder.iterdir() if path.name != "list.txt"}
    assert after == {name: data for name, data in before.items() if name != "list.txt"}


def test_the_cleaned_list_can_be_trained_on_and_says_what_it_keeps(
    tmp_path: Path, faulty: Faulty, capsys: pytest.CaptureFixture[str]
):
    faulty.add("cut.jpg", encoded(photo(52))[:900], "class 0").add("gone.jpg", None, "class 1")
    faulty.add("nolabel.jpg", encoded(photo(60))).add("again.jpg", encoded(photo(0), quality=50), "class 0")
    result = run(tmp_path, faulty, cleaned=str(tmp_path / "clean.csv"))
    records = read_records(Csv(path=str(tmp_path / "clean.csv")))
    names = [Path(records.uri(i)).name for i in range(len(records))]
    assert names == [*(f"plain{n}.jpg" for n in range(9)), "again.jpg"]
    kept = {name: value for name, value in result.numbers.items() if name.startswith("cleaned.kept.")}
    assert kept == {"cleaned.kept.duplicates": 1}
    shown = " ".join(capsys.readouterr().err.split())
    page = (tmp_path / "check/report/index.html").read_text()
    assert "mirrored and turned ones" in page and "The cleaned list keeps, although found: 1 duplicates." in page
    assert "left out: missing, broken, unlabelled" in shown and "kept although found: 1 duplicates" in shown
    run(tmp_path, faulty, cleaned=str(tmp_path / "clean.csv"), drop=["duplicates"])
    assert "kept although found: 1 missing, 1 broken, 1 unlabelled" in " ".join(capsys.readouterr().err.split())
    run(tmp_path, faulty, cleaned=str(tmp_path / "clean.csv"), drop=["unusable", "duplicates"])
    assert len(read_records(Csv(path=str(tmp_path / "clean.csv")))) == 9
    assert "kept although" not in capsys.readouterr().err


def test_a_check_does_not_warn_of_what_its_table_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    faulty = Faulty(tmp_path / "set")
    for n in range(4):
        faulty.add(f"{n}.jpg", encoded(photo(n)), str(300 * (n % 2)))
    faulty.rows.append(faulty.rows[0])
    assert len(read_records(ImageList(path=faulty.list()), labelled=False).notes) == 2
    assert run(tmp_path, faulty, cleaned=str(tmp_path / "clean.txt")).numbers["repeats"] == 1
    shown = capsys.readouterr().err
    assert "numbered 0" not in shown and "an earlier line" not in shown


def test_settings_without_effect_are_refused(tmp_path: Path, faulty: Faulty):
    for settings, words in (
        ({"drop": ["broken"]}, "drop has no effect without cleaned"),
        ({"cleaned": "x.csv", "drop": []}, "cleaned needs drop"),
        ({"fail_on": ["leaks"]}, "leaks need validation"),
        ({"fail_on": ["mislabelled"]}, "mislabelled needs bundle"),
        ({"mislabelled": 0.4}, "no effect without bundle"),
    ):
        with pytest.raises(SpecError, match=words):
            run(tmp_path, faulty, **settings)


def test_fail_on_ends_with_code_3_once_all_is_written(
    tmp_path: Path, faulty: Faulty, capsys: pytest.CaptureFixture[str]
):
    faulty.add("cut.jpg", encoded(photo(52))[:900], "class 0")
    words = ["data", "check", "--data.path", faulty.list(), "--output", str(tmp_path / "check"), "--workers", "1"]
    assert main(words) == 0
    assert main([*words, "--fail-on", "leaks"]) == 2
    assert main([*words, "--fail-on", "broken,missing"]) == 3
    captured = capsys.readouterr()
    assert "found 1 broken" in captured.err and "the file cannot be decoded" in captured.out
    assert json.loads((tmp_path / "check" / "check.json").read_text())["broken"] == 1


def test_the_page_escapes_names_and_shows_pictures(tmp_path: Path):
    name = "<img src=x onerror=alert(1)>.jpg"
    faulty = Faulty(tmp_path / "set").plain(4)
    faulty.add(name, encoded(photo(0), quality=40), "<script>alert(2)</script>")
    faulty.add("cut.jpg", b"<b>no</b>", "<i>class</i>")
    run(tmp_path, faulty)
    page = (tmp_path / "check/report/index.html").read_text()
    for evil in ("<img src=x", "<script>alert", "<i>class", "<b>no"):
        assert evil not in page
    assert "&lt;img src=x" in page and page.count("data:image/") >= 2


def test_other_folders_and_files_are_not_written_into(tmp_path: Path, faulty: Faulty):
    (tmp_path / "check").mkdir()
    (tmp_path / "check" / "thesis.txt").write_text("precious")
    with pytest.raises(SpecError, match=r"holds thesis\.txt"):
        run(tmp_path, faulty)
    with pytest.raises(SpecError, match="is a file"):
        run(tmp_path, faulty, output=str(tmp_path / "check" / "thesis.txt"))


def test_empty_and_wholly_broken_sets(tmp_path: Path):
    empty = Faulty(tmp_path / "set")
    with pytest.raises(DataError, match="is empty"):
        run(tmp_path, empty)
    empty.add("a.jpg", b"x", "1").add("b.jpg", None, "2")
    result = run(tmp_path, empty)
    assert (result.numbers["broken"], result.numbers["missing"]) == (1, 1)
    with pytest.raises(DataError, match="no image is left"):
        run(tmp_path, empty, cleaned=str(tmp_path / "c.csv"), drop=["broken", "missing"])


def test_processes_find_what_one_finds(tmp_path: Path, faulty: Faulty):
    faulty.add("again.jpg", encoded(photo(0), quality=50), "class 0").add("cut.jpg", b"", "class 0")
    alone, many = run(tmp_path, faulty), run(tmp_path, faulty, workers=2)
    assert alone.findings.rows == many.findings.rows


def test_ctrl_c_ends_at_once_and_leaves_nothing_half_done(tmp_path: Path):
    faulty = Faulty(tmp_path / "set").plain(6)
    faulty.rows = faulty.rows * 2000
    words = ["data", "check", "--data.path", faulty.list(), "--output", str(tmp_path / "check"), "--workers", "2"]
    job = subprocess.Popen([sys.executable, "-m", "kinsight", *words], env={**os.environ}, start_new_session=True)
    time.sleep(4)
    assert job.poll() is None, "too quick to interrupt"
    os.killpg(job.pid, signal.SIGINT)
    assert job.wait(timeout=20) == 130
    assert not (tmp_path / "check" / "check.json").exists()

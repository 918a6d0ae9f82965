"""`kinsight predict`: what it takes, what it writes, and images that fail."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from servers import Server, rclone_server, use, web_server
from small_set import NAMES

import kinsight
from kinsight.cli import main
from kinsight.data.tfrecord.example import encode_example
from kinsight.data.tfrecord.framing import frame
from kinsight.errors import DataError, KinsightError, SpecError, StorageError
from kinsight.predicting.parts import Parts
from kinsight.specs.predict import PredictSpec

FAST = {"workers": 0, "device": "cpu"}


def predicted(bundle: Path, output: Path | str, *images: Path | str, **settings: object) -> list[dict]:
    given = {"bundle": str(bundle), "input": [str(each) for each in images], "output": str(output)}
    kinsight.predict(FAST | given | settings)
    return [json.loads(line) for line in kinsight.storage.read_text(str(output)).split("\n")[:-1]]


def test_lines_of_one_class(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    lines = predicted(bundles["classification"], tmp_path / "out.jsonl", pictures / "list.txt")
    assert len(lines) == 30
    assert [line["class"] for line in lines] == [number for number in range(6) for _ in range(5)]
    for line in lines:
        assert set(line) == {"image", "class", "class_name", "class_probs"}
        assert line["class_name"] == NAMES[line["class"]]
        assert list(line["class_probs"]) == list(NAMES)
        assert sum(line["class_probs"].values()) == pytest.approx(1, abs=1e-5)
        assert max(line["class_probs"], key=line["class_probs"].__getitem__) == line["class_name"]
    assert lines[0]["image"] == str(pictures / "images/0/0.png")


def test_lines_of_several_labels(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    lines = predicted(bundles["multilabel"], tmp_path / "out.jsonl", pictures / "images")
    assert len(lines) == 30
    for line in lines:
        assert set(line) == {"image", "class_probs", "classes", "predictions", "class_names", "probs"}
        assert line["predictions"] == [value >= 0.5 for value in line["probs"]]
        assert line["classes"] == [number for number, yes in enumerate(line["predictions"]) if yes]
        assert line["class_names"] == [NAMES[number] for number in line["classes"]]
        assert list(line["class_probs"].values()) == line["probs"]
    assert sum(line["classes"] == [int(Path(line["image"]).parent.name)] for line in lines) >= 28


def test_the_same_as_the_model_itself(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    for task in ("classification", "multilabel"):
        lines = predicted(bundles[task], tmp_path / task, pictures / "images", batch_size=30, top_k=2)
        direct = kinsight.load(bundles[task], device="cpu").predict([line["image"] for line in lines], top_k=2)
        assert [{"image": line["image"], **answer} for line, answer in zip(lines, direct, strict=True)] == lines
        assert all(len(line["class_probs"]) == 2 for line in lines)
        best = [list(line["class_probs"].values()) for line in lines]
        assert all(first >= second for first, second in best)


def test_batches_and_workers_change_no_answer(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    one, other = (
        predicted(
            bundles["classification"], tmp_path / str(workers), pictures / "images", workers=workers, batch_size=4
        )
        for workers in (0, 2)
    )
    assert one == other


def test_files_folders_and_lists_in_their_order(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text(f"image,label\n{pictures}/images/2/1.png,zebra\n{pictures}/images/2/0.png,\n")
    first, last = pictures / "images/5/4.png", pictures / "images/0/3.png"
    given = [first, tmp_path / "names.csv", pictures / "images/3", last]
    lines = predicted(bundles["classification"], tmp_path / "out", *given)
    names = [str(Path(line["image"]).relative_to(pictures / "images")) for line in lines]
    assert names == ["5/4.png", "2/1.png", "2/0.png", *(f"3/{number}.png" for number in range(5)), "0/3.png"]


def test_images_that_fail_have_lines_with_the_reason(
    pictures: Path, bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "none.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    (tmp_path / "gone.txt").write_text("gone.jpg\n")
    given = [tmp_path / "bad.png", pictures / "images/0/0.png", tmp_path / "none.jpg", tmp_path / "gone.txt"]
    lines = predicted(bundles["multilabel"], tmp_path / "out", *given, tmp_path / "text.jpg")
    assert [set(line) == {"image", "error"} for line in lines] == [True, False, True, True, True]
    assert "the file is empty" in lines[2]["error"]
    assert "no such file" in lines[3]["error"]
    assert "gone.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_when_every_image_fails_that_is_an_error_and_mending_helps(
    name: str, pictures: Path, bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{number}.png\n" for number in range(40)))
    words = ["predict", str(tmp_path / "list.txt"), "--bundle", str(bundles["classification"]), "--workers", "0"]
    words += ["--output", str(tmp_path / name), "--device", "cpu"]
    assert main(words) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "none of 40 images has an answer" in said and "0.png" in said
    assert not (tmp_path / name).exists()
    kept = [line for file in sorted((tmp_path / f"{name}.parts").iterdir()) for line in file.read_text().splitlines()]
    assert len(kept) == 40 and all("no such file" in json.loads(line)["error"] for line in kept)
    shutil.copy(pictures / "images/0/0.png", tmp_path / "7.png")
    assert main(words) == 0
    assert (tmp_path / name).exists() and not (tmp_path / f"{name}.parts").exists()


def test_a_mistyped_image_is_an_error_before_anything_else(
    pictures: Path, bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pictures / "images/0"
    words = ["--bundle", str(bundles["classification"]), "--output", str(tmp_path / "out")]
    for given, near in (
        (first / "00.png", f"did you mean {first}/0.png"),
        (first.with_name("im") / "0.png", "no folder"),
    ):
        assert main(["predict", str(first / "0.png"), str(given), *words]) == 3
        said = " ".join(capsys.readouterr().err.split())
        assert "no such file or folder" in said and near in said, said
    assert main(["predict", str(tmp_path / "lost.txt"), *words]) == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("pattern*", "no file matches → look at what images/0 holds"),
        ("0*.jpg", "no file matches → did you mean images/0/0.png"),
        ("*.png", "patterns stand for TFRecords and Parquet files alone → leave out the quotes"),
        ("gone[1].png", "no file matches"),
        ("*.tfrecord", "no file matches; "),
        ("*.parquet", "no file matches; "),
        ("gone.tfrecord#bytes=0-9", "no such file or folder"),
    ],
)
def test_a_pattern_that_names_nothing_is_an_error_before_anything_else(
    given: str,
    words: str,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(pictures)
    (tmp_path / "out").mkdir()
    bundle = tmp_path / "not-asked-for"  # that none is there would be the next thing to be told
    line = ["predict", f"images/0/{given}", "--bundle", str(bundle), "--output", str(tmp_path / "out/said.jsonl")]
    assert main(line) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert words in said and given in said, said
    assert not list((tmp_path / "out").iterdir())


def test_names_that_look_like_patterns_and_patterns_of_tables(
    pictures: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    names = ("a[1].png", "b#2.png", "c*.png")
    for name in names:
        shutil.copy(pictures / "images/0/0.png", tmp_path / name)
    data = pa.array([(pictures / f"images/{label}/1.png").read_bytes() for label in (3, 4)], pa.binary())
    pq.write_table(pa.table({"image": data}), tmp_path / "x.parquet", compression="NONE", use_dictionary=False)
    lines = predicted(bundles["classification"], tmp_path / "out", *(tmp_path / name for name in (*names, "*.parquet")))
    assert [line["class"] for line in lines] == [0, 0, 0, 3, 4]


def test_a_text_that_is_no_list_says_so(bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("notes\n\nnothing\n")
    with pytest.raises(DataError, match=r"readme\.txt:1: 'notes' is no file: this was read as a list of addresses"):
        predicted(bundles["classification"], tmp_path / "out", tmp_path / "readme.txt")


def test_a_bundle_that_is_not_there(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(pictures / "images/0/0.png"), "--bundle", str(tmp_path / "gone"), "--output", str(tmp_path / "out")]
    assert main(["predict", *words]) == 1
    assert f"bundle={tmp_path / 'gone'}: no model bundle there" in capsys.readouterr().err.replace("\n", "")


def test_another_job_in_the_way_is_told_by_its_settings(
    pictures: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    parts, place = tmp_path / "out.parts", {"images": "i", "model": "m", "temperature": 1.5}
    parts.mkdir()
    one = PredictSpec(bundle="b", input=["a"], output=str(tmp_path / "out"))
    (parts / "job.json").write_text(json.dumps(place | {"settings": {"top_k": None}}))
    with pytest.raises(
        SpecError, match=r"another job: top_k was None, now 3; temperature was 1\.5, now 2\.5; the model"
    ):
        Parts(one).claim({"settings": {"top_k": 3}, "temperature": 2.5, "images": "i", "model": "n"}, False)
    with pytest.raises(SpecError, match=r"another job: the images or their order differ\n"):
        Parts(one).claim(place | {"settings": {"top_k": None}, "images": "j"}, False)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
@pytest.mark.parametrize("answers", ["classes", "both"])
def test_parquet_holds_the_same(
    task: str, answers: str, pictures: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").touch()
    given = [pictures / "images", tmp_path / "bad.png"]
    lines = predicted(bundles[task], tmp_path / "out.jsonl", *given, answers=answers)
    kinsight.predict(
        {"bundle": str(bundles[task]), "input": list(map(str, given)), "output": str(tmp_path / "out.parquet")}
        | FAST
        | {"answers": answers}
    )
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 31
    rows = table.to_pylist(maps_as_pydicts="strict")
    for row, line in zip(rows, lines, strict=True):
        kept = {name: value for name, value in row.items() if value is not None}
        assert set(kept) == set(line)
        for name in set(kept) - {"probs", "class_probs", "feature"}:
            assert kept[name] == line[name]
        if "class_probs" in line:
            assert kept["class_probs"] == pytest.approx(line["class_probs"], rel=1e-6)


def test_address_and_json(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    settings = {"bundle": str(bundles["classification"]), "input": [str(pictures / "list.txt")]}
    kinsight.predict(FAST | settings | {"output": str(tmp_path / "out.txt"), "lines": "address-json"})
    first = (tmp_path / "out.txt").read_text().split("\n")[0]
    address, _, answer = first.partition(", ")
    assert address == str(pictures / "images/0/0.png")
    assert json.loads(answer)["class"] == 0


def test_features_need_no_classifier(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    image = pictures / "images/1/1.png"
    (line,) = predicted(bundles["metric"], tmp_path / "out", image, answers="features")
    vector = kinsight.load(bundles["metric"], device="cpu").embed([str(image)], normalize=False)[0]
    assert np.allclose(line["feature"], vector, atol=1e-5)
    assert set(line) == {"image", "feature"}


def test_a_bundle_without_classifier_is_refused(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no classifier"):
        predicted(bundles["metric"], tmp_path / "out", pictures / "images")
    assert not list(tmp_path.iterdir())


def test_thresholds(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    everything = predicted(bundles["multilabel"], tmp_path / "all", pictures / "images/0", threshold=0.0)
    assert all(line["classes"] == list(range(6)) for line in everything)
    with pytest.raises(SpecError, match="has no effect on a bundle of task classification"):
        predicted(bundles["classification"], tmp_path / "out", pictures / "images/0", threshold=0.3)


def test_settings_without_effect(bundles: dict[str, Path], tmp_path: Path) -> None:
    for output, settings in (("x", {"answers": "features", "top_k": 2}), ("x.parquet", {"lines": "address-json"})):
        with pytest.raises(SpecError, match="no effect"):
            predicted(bundles["multilabel"], tmp_path / output, "a.jpg", **settings)


def test_a_finished_output_is_left_alone(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    first = predicted(bundles["classification"], tmp_path / "out", pictures / "images/0")
    with pytest.raises(SpecError, match="there already"):
        predicted(bundles["classification"], tmp_path / "out", pictures / "images/1")
    words = ["predict", str(pictures / "images/1"), "--bundle", str(bundles["classification"]), "--overwrite"]
    assert main([*words, "--output", str(tmp_path / "out"), "--workers", "0", "--device", "cpu"]) == 0
    again = [json.loads(line) for line in (tmp_path / "out").read_text().split("\n")[:-1]]
    assert [line["class"] for line in again] == [1] * 5
    assert again != first
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_lists_that_are_not_there_are_no_lines(bundles: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(KinsightError, match="missing"):
        predicted(bundles["classification"], tmp_path / "out", tmp_path / "missing.txt")
    assert not (tmp_path / "out").exists()


def test_object_storage_and_web_addresses(
    pictures: Path,
    bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    with rclone_server(tmp_path / "server") as server:
        bucket = use(server, "s3", monkeypatch, request).root.uri
        for name in ("0/0.png", "4/1.png"):
            kinsight.storage.write_bytes(f"{bucket}/images/{name}", (pictures / "images" / name).read_bytes())
        (tmp_path / "list.txt").write_text(f"{bucket}/images/4/1.png\n{bucket}/images/gone.png\n")
        output = f"{bucket}/out/answers.jsonl"
        for given in ("*.png", "images/0/[x].png", "*.tfrecord"):
            with pytest.raises(DataError, match=r"no file matches|patterns stand for TFRecords"):
                predicted(tmp_path / "not-asked-for", output, f"{bucket}/{given}")
        lines = predicted(bundles["classification"], output, f"{bucket}/images", tmp_path / "list.txt")
        assert [line.get("class") for line in lines] == [0, 4, 4, None]
        assert [entry.relative for entry in kinsight.storage.list_files(f"{bucket}/out")] == ["answers.jsonl"]


def test_one_dead_web_address_breaks_its_line_alone_and_many_end_the_job(
    pictures: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "1")
    dead = "http://127.0.0.1:9/image.jpg"
    lines = predicted(bundles["classification"], tmp_path / "out", pictures / "images/2/2.png", dead)
    assert lines[0]["class"] == 2
    assert "error" in lines[1]
    with pytest.raises(StorageError):
        predicted(bundles["classification"], tmp_path / "more", *[dead] * 20)


DEAD = "http://127.0.0.1:9"
SHORT = {"KINSIGHT_STORAGE_TIMEOUT_S": "3"}


def addresses(server: Server, pictures: Path, count: int) -> list[str]:
    names = sorted(str(path.relative_to(pictures)) for path in pictures.glob("images/*/*.png"))
    return [f"{server.url}/{names[number % len(names)]}?{number}" for number in range(count)]


@pytest.fixture
def web(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name, value in SHORT.items():
        monkeypatch.setenv(name, value)
    with web_server(pictures) as server:
        yield server


@pytest.mark.parametrize("first", ["alive", "dead"])
def test_a_dead_server_beside_one_that_answers_is_lines_with_errors(
    first: str, web: Server, pictures: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    alive, dead = addresses(web, pictures, 8), [f"{DEAD}/{number}.jpg" for number in range(40)]
    given = [*dead, *alive] if first == "dead" else [*alive, *dead, *alive[:2]]
    (tmp_path / "list.txt").write_text("\n".join(given) + "\n")
    lines = predicted(bundles["classification"], tmp_path / "out", tmp_path / "list.txt", batch_size=16)
    assert [line["image"] for line in lines] == [address.partition("?")[0] for address in given]
    assert ["error" in line for line in lines] == [address.startswith(DEAD) for address in given]
    assert "is not asked any more" in [line for line in lines if "error" in line][-1]["error"]


def test_a_server_that_stops_answering_ends_the_job_and_costs_nothing(
    web: Server, pictures: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = addresses(web, pictures, 48)
    (tmp_path / "list.txt").write_text("\n".join(given) + "\n")
    inner = Parts.add

    def add(self: Parts, answers: list[dict]) -> None:
        inner(self, answers)
        web.stop()

    monkeypatch.setattr(Parts, "add", add)
    settings = {"batch_size": 16, "save_seconds": 1e-6}
    with pytest.raises(StorageError, match=r"has stopped answering.*in a row") as stopped:
        predicted(bundles["classification"], tmp_path / "out", tmp_path / "list.txt", **settings)
    assert "the same command again" in str(stopped.value) and "--unreachable skip" in str(stopped.value)
    monkeypatch.undo()
    for name, value in SHORT.items():
        monkeypatch.setenv(name, value)
    kept = "".join(part.read_text() for part in (tmp_path / "out.parts").glob("part-*"))
    assert kept.count("\n") == 16 and '"error"' not in kept
    shutil.copytree(tmp_path / "out.parts", tmp_path / "other.parts")
    skip = settings | {"unreachable": "skip"}
    lines = predicted(bundles["classification"], tmp_path / "other", tmp_path / "list.txt", **skip)
    assert ["error" in line for line in lines] == [False] * 16 + [True] * 32
    web.start()
    lines = predicted(bundles["classification"], tmp_path / "out", tmp_path / "list.txt", **settings)
    assert len(lines) == 48 and not any("error" in line for line in lines)


def test_a_continued_job_knows_which_servers_answered(
    web: Server, pictures: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is of a dead server alone, as when the job was killed in the middle of its addresses."""
    given = [*addresses(web, pictures, 4), *[f"{DEAD}/{number}.jpg" for number in range(20)]]
    (tmp_path / "list.txt").write_text("\n".join(given) + "\n")
    inner = Parts.add

    def add(self: Parts, answers: list[dict]) -> None:
        inner(self, answers)
        raise RuntimeError("killed")

    monkeypatch.setattr(Parts, "add", add)
    settings = {"batch_size": 4, "save_seconds": 1e-6}
    with pytest.raises(RuntimeError, match="killed"):
        predicted(bundles["classification"], tmp_path / "out", tmp_path / "list.txt", **settings)
    monkeypatch.setattr(Parts, "add", inner)
    lines = predicted(bundles["classification"], tmp_path / "out", tmp_path / "list.txt", **settings)
    assert ["error" in line for line in lines] == [False] * 4 + [True] * 20


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_with_another_column_of_images(
    ending: str, pictures: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    table = pa.table({"number": ["7", "8"], "file": [f"{pictures}/images/{label}/0.png" for label in (3, 1)]})
    listed = tmp_path / f"list.{ending}"
    pq.write_table(table, listed) if ending == "parquet" else pa_csv.write_csv(table, listed)
    with pytest.raises(DataError, match="has no column 'image'") as refused:
        predicted(bundles["classification"], tmp_path / "out", listed)
    assert refused.value.remedy == "set image_column to 'file', whose cells look like addresses of images"
    lines = predicted(bundles["classification"], tmp_path / "out", listed, image_column="file")
    assert [line["class"] for line in lines] == [3, 1]
    with pytest.raises(SpecError, match=r"image_column=file: has no effect without a \.csv or \.parquet list"):
        predicted(bundles["classification"], tmp_path / "other", pictures / "images/3", image_column="file")


def test_numbers_that_are_not_finite_are_errors(pictures: Path, tmp_path: Path) -> None:
    from classifier_bundles import make_classifier

    image = pictures / "images/1/1.png"
    for task in ("classification", "multilabel"):
        bundle = make_classifier(tmp_path / task, task=task, sharpness=1e40)
        with pytest.raises(DataError, match="none of 1 images has an answer"):
            predicted(bundle, tmp_path / f"{task}.jsonl", image)
        (part,) = (tmp_path / f"{task}.jsonl.parts").iterdir()
        line = json.loads(part.read_text())
        assert line == {"image": str(image), "error": "the model gives numbers for it that are not finite"}
        with pytest.raises(DataError, match=r"images\[0\]: the model gives numbers for it that are not finite"):
            kinsight.load(bundle, device="cpu").predict([image])
        assert np.isfinite(kinsight.load(bundle, device="cpu").embed([image])).all()


def test_web_addresses_cannot_be_written_to(bundles: dict[str, Path]) -> None:
    with pytest.raises(StorageError, match="read only"):
        predicted(bundles["classification"], "http://nowhere.invalid/out.jsonl", "a.jpg")


def test_names_with_odd_line_breaks(pictures: Path, tmp_path: Path) -> None:
    from classifier_bundles import make_classifier

    names = ("a\u2028b", "c\x85d", "e", "f", "g", 'h"\\')
    bundle = make_classifier(tmp_path / "bundle", task="classification", names=names)
    lines = predicted(bundle, tmp_path / "out", pictures / "images")
    assert [line["class_name"] for line in lines] == [names[number] for number in range(6) for _ in range(5)]
    kinsight.predict(FAST | {"bundle": str(bundle), "input": [str(pictures / "images")], "lines": "address-json",
                             "output": str(tmp_path / "text")})  # fmt: skip
    assert len((tmp_path / "text").read_text().split("\n")) == 31


def test_images_inside_tfrecords(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    for shard in range(2):
        data = b""
        for label in (2 * shard, 2 * shard + 1):
            image = (pictures / f"images/{label}/3.png").read_bytes()
            data += frame(encode_example({"image/encoded": image, "image/class/label": [label]}))
        (tmp_path / f"part-{shard}.tfrecord").write_bytes(data)
    lines = predicted(
        bundles["classification"], tmp_path / "out", tmp_path / "part-*.tfrecord", pictures / "images/5/3.png"
    )
    assert [line["class"] for line in lines] == [0, 1, 2, 3, 5]
    assert lines[3]["image"].startswith(f"{tmp_path}/part-1.tfrecord#bytes=")


def test_an_output_beside_where_one_stands(
    pictures: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert predicted(bundles["classification"], "out.jsonl", pictures / "images/4")[0]["class"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]

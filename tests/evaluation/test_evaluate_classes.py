"""`kinsight evaluate` on bundles with a classifier: numbers, files, the page, and what goes into the bundle."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from classifier_bundles import make_classifier
from small_set import NAMES, write_list, write_pictures

import kinsight
from kinsight.cli import main
from kinsight.errors import DataError, SpecError
from kinsight.metrics import classification_metrics, multilabel_metrics
from kinsight.metrics.label_thresholds import NEVER
from kinsight.models import load_header

EACH = 8


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """list.txt: one class an image; labels.csv: a column a label, some unknown, one image without any."""
    folder = tmp_path_factory.mktemp("classes")
    lines = write_pictures(folder, range(len(NAMES)), range(EACH))
    write_list(folder / "list.txt", lines)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *NAMES])
        for row, (path, label) in enumerate(lines):
            cells: list[object] = [int(label == other) for other in range(len(NAMES))]
            if row % 5 == 0:
                cells[(label + 1) % 6] = "?"
            if row % 7 == 0:
                cells[(label + 2) % 6] = 1
            writer.writerow([path, *(cells if row != 11 else [0] * 6)])
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> dict[str, Path]:
    """By task; of a test's own, since evaluations write into them."""
    return {task: make_classifier(tmp_path / task, task=task) for task in ("classification", "multilabel")}


def source(images: Path, task: str) -> dict[str, object]:
    if task == "classification":
        return {"path": str(images / "list.txt")}
    return {"path": str(images / "labels.csv"), "format": "csv", "label_columns": list(NAMES)}


def evaluate(bundle: Path, data: dict[str, object], output: Path, **settings: object) -> dict[str, float]:
    given = {"bundle": str(bundle), "data": data, "output": str(output), "workers": 0, "device": "cpu"}
    return kinsight.evaluate(given | {"precision": "fp32"} | settings).metrics


def logits(bundle: Path, paths: list[str]) -> torch.Tensor:
    model = kinsight.load(bundle, device="cpu", precision="fp32")
    return model.logits(torch.stack([model.pixels(path) for path in paths]))


def targets(images: Path) -> torch.Tensor:
    with (images / "labels.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return torch.tensor([[-1 if cell == "?" else int(cell) for cell in row[1:]] for row in rows])


def test_numbers_of_one_class(images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    found = evaluate(
        bundle["classification"], source(images, "classification"), tmp_path / "out", classes={"ks": [2, 4]}
    )
    paths = [f"{images}/{label}/{number}.png" for label in range(6) for number in range(EACH)]
    label_N = torch.arange(6).repeat_interleave(EACH)
    means = classification_metrics(logits(bundle["classification"], paths), label_N, ks=(2, 4)).means
    assert {name: found[name] for name in means} == pytest.approx(means)
    assert (found["images"], found["classes"], found["broken_images"]) == (48, 6, 0)
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == found
    with (tmp_path / "out/per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["class"] for row in rows) == sorted(NAMES)
    recalls = [float(row["recall"]) for row in rows]
    assert recalls == sorted(recalls)
    assert sum(recalls) / 6 == pytest.approx(found["macro_recall"], abs=1e-5)


def test_numbers_of_several_labels(images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    place = bundle["multilabel"]
    found = evaluate(place, source(images, "multilabel"), tmp_path / "out")
    paths = [f"{images}/{label}/{number}.png" for label in range(6) for number in range(EACH)]
    probability_NC = logits(place, paths).sigmoid()
    means = multilabel_metrics(probability_NC, targets(images)).means
    assert {name: found[name] for name in means} == pytest.approx(means)
    header = load_header(place)
    assert header.temperature == pytest.approx(found["temperature"])
    assert header.label_thresholds is not None
    again = evaluate(place, source(images, "multilabel"), tmp_path / "again")
    assert again["cf1"] == pytest.approx(found["chosen/cf1"])
    assert again["map"] == pytest.approx(found["map"])
    assert again["ece"] == pytest.approx(found["calibrated/ece"])


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_intervals_over_images(task: str, images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    bounded = ["accuracy"] if task == "classification" else ["map", "exact_match"]
    data = source(images, task)
    if task == "classification":
        wrong = [(f"{images}/{label}/{n}.png", (label + (n == 0)) % 6) for label in range(6) for n in range(EACH)]
        data = {"path": str(write_list(tmp_path / "wrong.txt", wrong))}
    found = evaluate(bundle[task], data, tmp_path / "out", write_thresholds=False)
    for name in bounded:
        assert 0 <= found[f"{name}.low"] <= found[name] <= found[f"{name}.high"] <= 1
        assert found[f"{name}.low"] < found[f"{name}.high"]
    text = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert "95 % interval" in text and "if other images" in text
    narrower = evaluate(bundle[task], data, tmp_path / "b", write_thresholds=False, confidence=0.5)
    none = evaluate(bundle[task], data, tmp_path / "c", write_thresholds=False, bootstrap=0)
    for name in bounded:
        assert found[f"{name}.low"] <= narrower[f"{name}.low"] <= narrower[f"{name}.high"] <= found[f"{name}.high"]
    assert not [name for name in none if name.endswith((".low", ".high"))]


def test_predictions_use_what_was_chosen(images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    place = bundle["multilabel"]
    evaluate(place, source(images, "multilabel"), tmp_path / "out", classes={"precision": 1.0})
    header = load_header(place)
    assert header.label_thresholds is not None and header.temperature is not None
    paths = [f"{images}/{label}/0.png" for label in range(6)]
    said = (logits(place, paths) / header.temperature).sigmoid() >= torch.tensor(header.label_thresholds)
    answers = kinsight.load(place, device="cpu", precision="fp32").predict(paths)
    assert [answer["predictions"] for answer in answers] == said.tolist()


def test_the_bundles_own_thresholds_stay(
    images: Path, bundle: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = bundle["multilabel"]
    evaluate(place, source(images, "multilabel"), tmp_path / "one")
    before = load_header(place)
    write_list(tmp_path / "half.txt", [(f"{images}/{label}/{n}.png", label) for label in range(6) for n in range(4)])
    half = {"path": str(tmp_path / "half.txt")}
    evaluate(place, half, tmp_path / "two")
    assert load_header(place) == before
    assert "--replace-thresholds" in capsys.readouterr().err
    evaluate(place, half, tmp_path / "three", replace_thresholds=True)
    assert load_header(place).label_thresholds != before.label_thresholds
    assert load_header(place).content_hash == before.content_hash


def test_nothing_is_written_when_not_wanted(images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    before = load_header(bundle["classification"])
    evaluate(bundle["classification"], source(images, "classification"), tmp_path / "out", write_thresholds=False)
    assert load_header(bundle["classification"]) == before


def test_a_handful_of_images_chooses_nothing(
    images: Path, bundle: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_list(tmp_path / "few.txt", [(f"{images}/{label}/0.png", label) for label in range(6)])
    found = evaluate(bundle["multilabel"], {"path": str(few)}, tmp_path / "out")
    assert found["images"] == 6
    assert load_header(bundle["multilabel"]).temperature is None
    assert "6 images say too little" in capsys.readouterr().err


def test_training_images_choose_no_thresholds(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kinsight.data import read_records
    from kinsight.specs.data import ImageList

    sketch = read_records(ImageList(path=str(images / "list.txt"))).sketch
    place = make_classifier(tmp_path / "bundle", task="classification", data_sketch=sketch)
    evaluate(place, source(images, "classification"), tmp_path / "out")
    assert load_header(place).temperature is None
    assert "about 100 % of these are training images" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_the_page(task: str, images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    evaluate(bundle[task], source(images, task), tmp_path / "out", classes={"num_visualizations": 4})
    text = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Ölpumpe&lt;/b&gt;" in text and "<b>Ölpumpe" not in text
    assert ("Which classes are taken for which" in text) == (task == "classification")
    for words in (
        "Mistakes, the worst first",
        "How sure it may be",
        "Every label" if task == "multilabel" else "Every class",
    ):
        assert words in text
    assert text.count("data:image/") >= 4
    assert "nan" not in re.sub(r"data:image[^\"]*", "", text).lower().split("<script")[0]


def test_the_page_gives_the_bundles_temperature_in_four_digits(images: Path, tmp_path: Path) -> None:
    place = make_classifier(tmp_path / "bundle", task="classification", temperature=2.1054846664619524)
    evaluate(place, source(images, "classification"), tmp_path / "out")
    text = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert "<td>temperature of the bundle<td>2.105<" in re.sub("<wbr>", "", text)


def test_no_page_no_table(images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    settings = {"report": None, "classes": {"each_class": False}}
    evaluate(bundle["classification"], source(images, "classification"), tmp_path / "out", **settings)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "confusion.csv", "evaluation.json", "metrics.json"
    ]  # fmt: skip


def test_the_worst_mistakes_come_first(images: Path, tmp_path: Path) -> None:
    place = make_classifier(tmp_path / "bundle", task="classification")
    wrong = [(f"{images}/{label}/{n}.png", (label + (n == 0)) % 6) for label in range(6) for n in range(EACH)]
    data = {"path": str(write_list(tmp_path / "wrong.txt", wrong))}
    found = evaluate(place, data, tmp_path / "out", classes={"num_visualizations": 3})
    assert found["accuracy"] <= 7 / 8
    text = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    part = text.partition('id="wrong"')[2].partition("</section>")[0]
    assert part.count("<figure") == 3
    shown = [float(each.partition(")")[0]) for each in part.partition("As a table")[0].split("(true one ")[1:]]
    assert shown == sorted(shown)
    with (tmp_path / "out/confusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["images"]) for row in rows) == round(48 * (1 - found["accuracy"]))


def test_vectors_are_judged_by_retrieval_when_asked(images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    found = evaluate(
        bundle["classification"], source(images, "classification"), tmp_path / "out", task="metric", bootstrap=0,
        report={"map": "none"}, write_thresholds=False,
    )  # fmt: skip
    assert "recall@1" in found and "accuracy" not in found


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        ("classification", {"ks": [1]}, "ks: has no effect"),
        ("classification", {"classes": {"precision": 0.9}}, r"classes\.precision: has no effect"),
        ("multilabel", {"classes": {"ks": [3]}}, r"classes\.ks: has no effect"),
        ("multilabel", {"task": "classification"}, "was trained with task=multilabel"),
        ("multilabel", {"max_pairs": 5000}, "max_pairs: has no effect"),
        ("classification", {"classes": {"ks": [2, 6]}}, r"classes\.ks=6: is always 1 with 6 classes"),
        ("classification", {"classes": {"ks": [1, 5]}}, r"classes\.ks=1: is accuracy"),
        ("multilabel", {"report": {"map": "pca"}}, "report: has no effect"),
        ("classification", {"task": "metric", "classes": {"each_class": False}}, "classes: has no effect"),
        ("multilabel", {"write_thresholds": False, "replace_thresholds": True}, "replace_thresholds has no effect"),
    ],
)
def test_settings_without_effect(
    task: str, settings: dict[str, object], words: str, images: Path, bundle: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=words):
        evaluate(bundle[task], source(images, task), tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_the_stored_settings_give_the_same_job(images: Path, bundle: dict[str, Path], tmp_path: Path) -> None:
    evaluate(bundle["multilabel"], source(images, "multilabel"), tmp_path / "out")
    spec = json.loads((tmp_path / "out/evaluation.json").read_text())["spec"]
    kinsight.evaluate(spec)


@pytest.mark.parametrize(
    ("lines", "task", "words"),
    [
        (["0/0.png", "0/1.png 1"], "classification", "label"),
        (["0/0.png 17", "0/1.png 1"], "classification", "17"),
        (["0/0.png unheard-of", "0/1.png cat"], "multilabel", "unheard-of"),
        (["0/0.png", "0/1.png"], "multilabel", "no image has a label"),
        (["0/0.png 1 2", "0/1.png 1"], "classification", "2 labels"),
    ],
)
def test_labels_that_do_not_fit(
    lines: list[str], task: str, words: str, images: Path, bundle: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    data = {"path": str(tmp_path / "list.txt"), "root": str(images)}
    with pytest.raises(DataError, match=words):
        evaluate(bundle[task], data, tmp_path / "out")


def test_from_the_command_line(
    images: Path, bundle: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--bundle", str(bundle["classification"]), "--data.path", str(images / "list.txt")]
    assert main([*words, "--output", str(tmp_path / "out"), "--workers", "0", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "accuracy" in shown.out and "macro_recall" in shown.out
    assert "temperature" in shown.err


def test_labels_without_a_column_are_in_no_figure(
    images: Path, bundle: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if their cells were all unknown, not as if no image showed them."""
    with (images / "labels.csv").open() as file:
        head, *rows = list(csv.reader(file))
    hidden = images / "hidden.csv"
    with hidden.open("w", newline="") as file:
        csv.writer(file).writerows([head, *([*row[:3], *"????"] for row in rows)])
    few = source(images, "multilabel") | {"label_columns": list(NAMES[:2])}
    all_of_them = source(images, "multilabel") | {"path": str(hidden)}
    settings = {"write_thresholds": False, "bootstrap": 0}
    found = evaluate(bundle["multilabel"], few, tmp_path / "few", **settings)
    said = capsys.readouterr().err
    assert all(name in said for name in NAMES[2:]) and "count as unknown" in said
    assert found == evaluate(bundle["multilabel"], all_of_them, tmp_path / "hidden", **settings)
    assert found["labels"] == 2
    with (tmp_path / "few/per_class.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["label"] == NAMES[3])
    assert not row["precision"] and not row["f1"]


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_a_temperature_at_its_bound_takes_no_thresholds_along(
    task: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make_classifier(tmp_path / "bundle", task=task, sharpness=-12.0)
    found = evaluate(place, source(images, task), tmp_path / "out")
    said, header = " ".join(capsys.readouterr().err.split()), load_header(place)
    assert found["temperature"] == pytest.approx(100) and header.temperature is None
    assert "no temperature is written" in said and "at its bound of 100" in said and "train longer" in said
    assert ("; the thresholds are" in said) == (task == "multilabel") == (header.label_thresholds is not None)
    page = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert "at its bound of 100, so that it is not kept" in page
    if header.label_thresholds is not None:  # of the probabilities that the bundle gives, without a temperature
        with (images / "labels.csv").open() as file:
            paths = [f"{images}/{row['image']}" for row in csv.DictReader(file)]
        likely = logits(place, paths).sigmoid() >= torch.tensor(header.label_thresholds)
        again = multilabel_metrics(likely.float(), targets(images), torch.full((6,), 0.5)).means
        assert again["cf1"] == pytest.approx(found["chosen/cf1"], abs=1e-6)
        evaluate(place, source(images, task), tmp_path / "again")
        assert "kept the bundle's own" in " ".join(capsys.readouterr().err.split())


def test_the_table_says_whose_temperature_it_is(
    images: Path, bundle: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data.path", str(images / "list.txt"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["evaluate", "--bundle", str(bundle["classification"]), *words, "--workers", "0"]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "temperature" in line]
    assert shown == ["calibrated/temperature"]


def test_labels_nobody_knows_of_keep_the_thresholds_they_had(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same logits are parted, by whatever temperature is written; what nothing reaches stays out of reach."""
    own = (0.5, 0.4, 0.3, 0.65, 0.9, NEVER)
    place = make_classifier(tmp_path / "bundle", task="multilabel", temperature=3.0, label_thresholds=own)
    few = source(images, "multilabel") | {"label_columns": list(NAMES[:2])}
    paths = [f"{images}/{label}/{number}.png" for label in range(6) for number in range(EACH)]
    logit_NC = logits(place, paths).double()
    before = (logit_NC / 3.0).sigmoid() >= torch.tensor(own)
    evaluate(place, few, tmp_path / "out", replace_thresholds=True)
    header, said = load_header(place), " ".join(capsys.readouterr().err.split())
    assert header.temperature is not None and abs(header.temperature - 3.0) > 0.1
    assert header.label_thresholds is not None and header.label_thresholds[5] == NEVER
    cut_C = torch.tensor(header.label_thresholds[2:5], dtype=torch.float64).logit() * header.temperature
    assert cut_C.tolist() == pytest.approx((torch.tensor(own[2:5], dtype=torch.float64).logit() * 3.0).tolist())
    after = (logit_NC / header.temperature).sigmoid() >= torch.tensor(header.label_thresholds)
    assert torch.equal(after[:, 2:], before[:, 2:]) and bool(after[:, 2:].any())
    assert f"of which nothing is known here: {', '.join(NAMES[2:])}" in said and "one for each other label" in said
    assert "4 labels of which nothing is known here keep theirs" in (tmp_path / "out/report/index.html").read_text()
    again = evaluate(place, few, tmp_path / "again", replace_thresholds=True)
    assert not [name for name in again if name.startswith("chosen/")]  # what these images choose is what the bundle has
    assert load_header(place).label_thresholds == pytest.approx(header.label_thresholds, abs=1e-6)


def test_labels_nobody_knows_of_share_a_threshold_where_the_bundle_has_none(
    images: Path, bundle: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = source(images, "multilabel") | {"label_columns": list(NAMES[:2])}
    evaluate(bundle["multilabel"], few, tmp_path / "out")
    thresholds = load_header(bundle["multilabel"]).label_thresholds
    assert thresholds is not None and len(set(thresholds[2:])) == 1 and thresholds[2] != 0.5
    assert "4 labels with few images share" in " ".join(capsys.readouterr().err.split())

"""`kinsight data get`: real layouts in small, served by a web server that can break off."""

import json
import zipfile
from pathlib import Path

import numpy as np
import published
import pytest
import yaml

from kinsight.cli import main
from kinsight.data import read_records
from kinsight.datasets import catalogue, get
from kinsight.errors import DataError, SpecError, StorageError
from kinsight.specs.data import ImageList
from kinsight.specs.flags import check
from kinsight.specs.train import TrainSpec

MAKERS = {
    "omniglot": published.omniglot,
    "fashion-mnist": published.fashion_mnist,
    "cub200": published.cub200,
    "sop": published.sop,
    "inshop": published.inshop,
    "caltech101": published.caltech101,
}


@pytest.fixture
def small_sums(monkeypatch: pytest.MonkeyPatch):
    """Makes the catalogue expect these files; all else of it stays."""

    def expect(name: str, files: dict[str, bytes]) -> None:
        whole = catalogue.DATA_SETS[name]
        entries = tuple(
            catalogue.Published(one.name, one.url, published.md5(files[one.name]) if one.md5 else None, one.into)
            for one in whole.files
        )
        fitting = catalogue.DataSet(whole.title, whole.page, entries, whole.by_hand)
        monkeypatch.setitem(catalogue.DATA_SETS, name, fitting)

    return expect


def listed(folder: Path, name: str) -> dict[str, str]:
    records = read_records(ImageList(path=str(folder / f"{name}.txt")))
    return {records.uri(i): records.class_names[records.labels(i)[0]] for i in range(len(records))}


@pytest.mark.parametrize("name", MAKERS)
def test_each_set_ends_with_lists_of_its_images_and_a_spec(name: str, tmp_path: Path, small_sums):
    files = MAKERS[name]()
    small_sums(name, files)
    with published.site(files) as site:
        folder = Path(get({"name": name, "output": str(tmp_path / "set"), "mirror": site.url}))
    spec = check(TrainSpec, yaml.safe_load((folder / "train.yaml").read_text()))
    assert spec.data.train.path == str(folder / "train.txt")
    names = ["train", "query", "gallery"] if name == "inshop" else ["train", "test"]
    lists = {part: listed(folder, part) for part in names}
    for rows in lists.values():
        assert rows and all(Path(uri).is_file() and Path(uri).is_relative_to(folder) for uri in rows)
    classes = {part: set(rows.values()) for part, rows in lists.items()}
    if name == "fashion-mnist":
        assert classes["train"] == classes["test"] and len(classes["train"]) == 10
    else:
        assert not classes["train"] & set().union(*(classes[part] for part in names[1:]))
    assert not (folder / "downloads").exists()
    assert json.loads((folder / "dataset.json").read_text())["images"] == {
        part: len(rows) for part, rows in lists.items()
    }


def test_the_splits_are_the_fields(tmp_path: Path, small_sums):
    for name, files in (("cub200", published.cub200()), ("inshop", published.inshop()), ("sop", published.sop())):
        small_sums(name, files)
        local = published.as_folder(tmp_path / f"{name}-files", files)
        get({"name": name, "output": str(tmp_path / name), "mirror": str(local)})
    assert set(listed(tmp_path / "cub200", "train").values()) == {"099.Bird_99", "100.Bird_100"}
    assert set(listed(tmp_path / "cub200", "test").values()) == {"101.Bird_101", "102.Bird_102"}
    assert set(listed(tmp_path / "inshop", "query").values()) == {"id_00000003"}
    assert set(listed(tmp_path / "inshop", "gallery").values()) == {"id_00000003", "id_00000004"}
    assert set(listed(tmp_path / "sop", "test").values()) == {"11319", "11320"}


def test_fashion_pictures_are_those_of_the_file(tmp_path: Path, small_sums):
    from PIL import Image

    files = published.fashion_mnist()
    small_sums("fashion-mnist", files)
    local = published.as_folder(tmp_path / "files", files)
    folder = Path(get({"name": "fashion-mnist", "output": str(tmp_path / "set"), "mirror": str(local)}))
    expected = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    assert np.array_equal(np.asarray(Image.open(folder / "images/train/00007.png")), expected[7])


def test_a_broken_connection_is_gone_on_with(tmp_path: Path, small_sums):
    files = published.omniglot()
    small_sums("omniglot", files)
    with published.site(files) as site:
        site.breaks = 3
        get({"name": "omniglot", "output": str(tmp_path / "set"), "mirror": site.url})
        assert site.sent == sum(map(len, files.values())), "nothing was sent twice"
        assert any(asked and not asked.startswith("bytes=0-") for _, _, asked in site.asked)


@pytest.mark.parametrize("able", ["ranges", "versions"])
def test_a_server_without_ranges_or_versions_begins_anew(able: str, tmp_path: Path, small_sums):
    files = published.omniglot()
    small_sums("omniglot", files)
    with published.site(files) as site:
        setattr(site, able, False)
        site.breaks = 1
        folder = get({"name": "omniglot", "output": str(tmp_path / "set"), "mirror": site.url})
    assert listed(Path(folder), "train")


def test_a_later_call_goes_on_with_a_partial_download(tmp_path: Path, small_sums):
    files = published.omniglot()
    small_sums("omniglot", files)
    name = "images_background.zip"
    part = tmp_path / "set" / "downloads" / f"{name}.part"
    with published.site(files) as site:
        evaluation = files["images_evaluation.zip"]
        half = len(files[name]) // 2
        part.parent.mkdir(parents=True)
        part.write_bytes(files[name][:half])
        (tmp_path / "set" / ".kinsight-get").write_text("omniglot")
        note = {"address": f"{site.url}/{name}", "size": len(files[name]), "version": f'"{published.md5(files[name])}"'}
        part.with_name(f"{name}.part.json").write_text(json.dumps(note))
        get({"name": "omniglot", "output": str(tmp_path / "set"), "mirror": site.url})
        assert ("GET", name, f"bytes={half}-") in site.asked
        assert site.sent == len(files[name]) - half + len(evaluation)


def test_a_part_of_another_version_is_thrown_away(tmp_path: Path, small_sums):
    files = published.omniglot()
    small_sums("omniglot", files)
    name = "images_background.zip"
    downloads = tmp_path / "set" / "downloads"
    downloads.mkdir(parents=True)
    (tmp_path / "set" / ".kinsight-get").write_text("omniglot")
    (downloads / f"{name}.part").write_bytes(b"something older")
    with published.site(files) as site:
        note = {"address": f"{site.url}/{name}", "size": len(files[name]), "version": '"older"'}
        (downloads / f"{name}.part.json").write_text(json.dumps(note))
        get({"name": "omniglot", "output": str(tmp_path / "set"), "mirror": site.url})


def test_a_wrong_checksum_is_refused_and_not_kept(tmp_path: Path):
    with published.site(published.omniglot()) as site, pytest.raises(DataError, match=r"published is 68d2efa1b917"):
        get({"name": "omniglot", "output": str(tmp_path / "set"), "mirror": site.url})
    assert not list((tmp_path / "set" / "downloads").iterdir())
    assert not (tmp_path / "set" / "dataset.json").exists()


def test_a_mirror_without_the_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with published.site({}) as site:
        monkeypatch.setenv("KINSIGHT_MIRROR", site.url)
        with pytest.raises(StorageError, match=r"images_background\.zip: no such file"):
            get({"name": "omniglot", "output": str(tmp_path / "set")})


@pytest.mark.parametrize("evil", ["../outside.jpg", "/etc/outside.jpg"])
def test_an_evil_archive_is_refused(evil: str, tmp_path: Path, small_sums):
    files = published.omniglot()
    files["images_background.zip"] = published.zipped({evil: b"x"})
    small_sums("omniglot", files)
    local = published.as_folder(tmp_path / "files", files)
    with pytest.raises(DataError, match="outside the target"):
        get({"name": "omniglot", "output": str(tmp_path / "set"), "mirror": str(local)})
    assert not list(tmp_path.rglob("outside.jpg"))


def test_a_zip_bomb_is_refused(tmp_path: Path, small_sums):
    files = published.omniglot()
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images_background/A/c/1.png", bytes(80 * 2**20))
    files["images_background.zip"] = bomb.read_bytes()
    small_sums("omniglot", files)
    local = published.as_folder(tmp_path / "files", files)
    with pytest.raises(DataError, match="unpacks to more than"):
        get({"name": "omniglot", "output": str(tmp_path / "set"), "mirror": str(local)})


def test_a_list_that_leads_out_of_the_set_is_refused(tmp_path: Path):
    (tmp_path / "secret.jpg").write_bytes(published.picture(1))
    files = published.inshop()
    files["list_eval_partition.txt"] = b"1\nimage_name item_id evaluation_status\n../../../secret.jpg id_1 train\n"
    local = published.as_folder(tmp_path / "files", files)
    with pytest.raises(StorageError, match="does not stay below"):
        get({"name": "inshop", "output": str(tmp_path / "set"), "mirror": str(local)})


def test_sets_to_fetch_by_hand_say_where_from(tmp_path: Path):
    with pytest.raises(SpecError, match=r"(?s)img\.zip.*InShopRetrieval.*--archive img\.zip list_eval_partition\.txt"):
        get({"name": "inshop", "output": str(tmp_path / "set")})
    assert not (tmp_path / "set").exists()
    local = published.as_folder(tmp_path / "files", published.inshop())
    words = ["data", "get", "inshop", "--output", str(tmp_path / "set")]
    words += ["--archive", str(local / "img.zip"), str(local / "list_eval_partition.txt")]
    assert main(words) == 0 and listed(tmp_path / "set", "query")


def test_an_archive_of_another_name_is_refused(tmp_path: Path):
    with pytest.raises(SpecError, match=r"images\.zip is none of the files"):
        get({"name": "omniglot", "output": str(tmp_path / "set"), "archive": [str(tmp_path / "images.zip")]})


def test_folders_of_something_else_are_left_alone(tmp_path: Path, small_sums):
    files = published.omniglot()
    small_sums("omniglot", files)
    local = published.as_folder(tmp_path / "files", files)
    with pytest.raises(SpecError, match="holds something else"):
        get({"name": "omniglot", "output": str(local), "mirror": str(local)})
    folder = get({"name": "omniglot", "output": str(tmp_path / "set"), "mirror": str(local)})
    before = (Path(folder) / "dataset.json").stat().st_mtime_ns
    get({"name": "omniglot", "output": folder, "mirror": "http://127.0.0.1:9/nothing"})
    assert (Path(folder) / "dataset.json").stat().st_mtime_ns == before, "a finished set is taken as it is"
    with pytest.raises(SpecError, match="holds the data set omniglot"):
        get({"name": "cub200", "output": folder})


def test_cars_are_split_by_the_annotations(tmp_path: Path, small_sums):
    scipy_io = pytest.importorskip("scipy.io")
    kind = np.dtype([("relative_im_path", "O"), ("class", "O"), ("test", "O")])
    rows = np.array([(f"car_ims/{n:06}.jpg", c, 0) for n, c in enumerate((1, 98, 99, 196), 1)], kind)
    names = np.array([f"Car {c}" for c in range(1, 197)], object)
    scipy_io.savemat(tmp_path / "cars_annos.mat", {"annotations": rows, "class_names": names})
    files = {
        "car_ims.tgz": published.tarred({f"car_ims/{n:06}.jpg": published.picture(n) for n in range(1, 5)}),
        "cars_annos.mat": (tmp_path / "cars_annos.mat").read_bytes(),
    }
    small_sums("cars196", files)
    local = published.as_folder(tmp_path / "files", files)
    folder = Path(get({"name": "cars196", "output": str(tmp_path / "set"), "mirror": str(local)}))
    assert set(listed(folder, "train").values()) == {"Car 1", "Car 98"}
    assert set(listed(folder, "test").values()) == {"Car 99", "Car 196"}


def test_every_address_and_checksum_has_its_form():
    for name, wanted in catalogue.DATA_SETS.items():
        assert wanted.page.startswith("https://"), name
        for file in wanted.files:
            assert file.md5 is None or (len(file.md5) == 32 and int(file.md5, 16) >= 0)
            assert wanted.by_hand if file.url is None else file.url.endswith(file.name)


def test_symbols_are_drawn_anywhere_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kinsight.datasets.job._SYMBOLS", 20)
    folder = Path(get({"name": "symbols", "output": str(tmp_path / "set")}))
    spec = check(TrainSpec, yaml.safe_load((folder / "train.yaml").read_text()))
    assert spec.data.validation is not None and listed(folder, "test")
    (folder / "dataset.json").unlink()
    (folder / "train.yaml").unlink()
    get({"name": "symbols", "output": str(folder)})
    assert (folder / "train.yaml").exists()
    with pytest.raises(SpecError, match="no effect on symbols"):
        get({"name": "symbols", "output": str(folder), "mirror": "http://127.0.0.1:9"})

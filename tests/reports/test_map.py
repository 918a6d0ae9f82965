"""The embedding map: places, pictures, and the data that the page's script reads."""

import base64
import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from report_cases import clusters, evaluation, pixels, with_pictures

from kinsight.reports.images import Images
from kinsight.reports.layout import neighbour_map, principal_map
from kinsight.reports.map_section import map_section
from kinsight.reports.mistakes import right_Q
from kinsight.reports.sprites import PER_SHEET, sprites
from kinsight.specs.report import ReportSpec

CPU = torch.device("cpu")


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_neighbours_stay_neighbours(metric) -> None:
    items = clusters(12, 25, spread=0.4)
    place_N2 = neighbour_map(items.vector_ND, metric, seed=0, device=CPU)
    assert place_N2.shape == (300, 2) and place_N2.dtype == np.float32
    near = torch.cdist(torch.from_numpy(place_N2), torch.from_numpy(place_N2)).fill_diagonal_(np.inf).argmin(1)
    same = (items.label_N[near] == items.label_N).float().mean()
    truth = (items.vector_ND @ items.vector_ND.T).fill_diagonal_(-1).argmax(1)
    assert same > 0.9 * (items.label_N[truth] == items.label_N).float().mean()
    np.testing.assert_array_equal(place_N2, neighbour_map(items.vector_ND, metric, seed=0, device=CPU))


def test_many_items_are_arranged_by_the_fast_method() -> None:
    items = clusters(60, 70, spread=0.3)
    place_N2 = neighbour_map(items.vector_ND, "cosine", seed=0, device=CPU)
    centre_C2 = np.stack([place_N2[items.label_N.numpy() == label].mean(0) for label in range(60)])
    own = np.linalg.norm(place_N2 - centre_C2[items.label_N.numpy()], axis=1)
    apart = np.linalg.norm(centre_C2[:, None] - centre_C2[None], axis=2)[~np.eye(60, dtype=bool)]
    assert np.median(own) < 0.2 * np.median(apart)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6, 9])
def test_few_alike_and_flat_vectors(number: int) -> None:
    for vector_ND in (torch.ones(number, 4), torch.eye(number, 4) + 0.1, torch.ones(number, 1), torch.randn(number, 2)):
        for place_N2 in (neighbour_map(vector_ND, "cosine", seed=0, device=CPU), principal_map(vector_ND, "l2")):
            assert place_N2.shape == (number, 2) and np.isfinite(place_N2).all()


def test_principal_components_are_those_of_an_svd() -> None:
    vector_ND = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)
    centred = (vector_ND - vector_ND.mean(0)).double()
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(
        np.abs(principal_map(vector_ND, "l2")), (u * s)[:, :2].abs().numpy(), rtol=1e-4, atol=1e-4
    )


def test_pictures_are_those_of_their_items(tmp_path: Path) -> None:
    items = with_pictures(clusters(12, 25), tmp_path)
    found = sprites(Images(), list(items.uris), budget=10**7, seed=0)
    assert found.side == 64 and found.count == 300 and len(found.sheets) == 2
    for row in range(0, 300, 7):
        number = int(found.place_N[row])
        sheet = Image.open(io.BytesIO(found.sheets[number // PER_SHEET][0]))
        at = number % PER_SHEET
        tile = sheet.crop((at % 16 * 64 + 12, at // 16 * 64 + 17, at % 16 * 64 + 52, at // 16 * 64 + 47))
        assert np.abs(pixels(tile) - pixels(Image.open(items.uri(row)))).mean() < 12, row


def test_the_budget_holds(tmp_path: Path) -> None:
    items = with_pictures(clusters(12, 50), tmp_path)
    everything = sprites(Images(), list(items.uris), budget=10**7, seed=0)
    sizes = []
    for budget in (0, 100, 40_000, 200_000, 400_000):
        found = sprites(Images(), list(items.uris), budget=budget, seed=0)
        assert sum(len(data) for data, _ in found.sheets) <= budget
        assert (found.place_N.max() + 1) <= PER_SHEET * len(found.sheets)
        sizes.append((found.count, found.side if found.count else 0))
    assert sizes == sorted(sizes) and sizes[0][0] == sizes[1][0] == 0 < sizes[2][0]
    assert everything.count == 600


def island(text: str, name: str) -> bytes:
    found = re.search(rf'<script type="text/plain" id="{name}">(.*?)</script>', text)
    assert found is not None
    return base64.b64decode(found[1])


def test_the_page_has_every_item_in_its_place(tmp_path: Path) -> None:
    items = with_pictures(clusters(12, 6, spread=1.0), tmp_path)
    found = evaluation(items)
    text = map_section(found, ReportSpec(map="pca"), Images(), CPU)
    places = np.frombuffer(island(text, "map-places"), "<u2").reshape(-1, 2)
    expected = principal_map(items.vector_ND, "cosine")
    for axis in (0, 1):
        assert np.corrcoef(places[:, axis], expected[:, axis])[0, 1] > 0.9999
    assert places.max() == 65535 and places.min() == 0
    assert np.frombuffer(island(text, "map-labels"), "<u4").tolist() == items.label_N.tolist()
    assert np.frombuffer(island(text, "map-flags"), "u1").tolist() == (right_Q(found) + 1).tolist()
    files = json.loads(gzip.decompress(island(text, "map-files")))
    assert files[3].startswith("3<i>&'") and len(files) == 72
    assert "All 72 items" in text and "Every item has a picture" in text


def test_more_items_than_wanted_are_drawn() -> None:
    found = evaluation(clusters(12, 6))
    text = map_section(found, ReportSpec(map="pca", map_items=20, map_pictures_mb=0), Images(), CPU)
    assert "20 of 72 items, chosen at random" in text and "report.map_pictures_mb is 0" in text
    assert len(island(text, "map-labels")) == 80
    assert text == map_section(found, ReportSpec(map="pca", map_items=20, map_pictures_mb=0), Images(), CPU)


@pytest.mark.parametrize(
    "given",
    [{"map": "none", "map_items": 50}, {"map": "umap"}, {"map_items": 1}, {"map": "none", "map_pictures_mb": 1}],
)
def test_settings_without_effect_are_refused(given) -> None:
    with pytest.raises(ValidationError):
        ReportSpec.model_validate(given)
    assert ReportSpec.model_validate(ReportSpec(map="none").model_dump()) == ReportSpec(map="none")

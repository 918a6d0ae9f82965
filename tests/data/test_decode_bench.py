"""The decode bench measures what it says, on a handful of images."""

import numpy as np
from PIL import Image

from kinsight.bench.decode import run
from kinsight.specs.bench import BenchDecode


def test_bench_decode_reports_both_sides(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / f"class {number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)).resize(
            (100, 150), Image.Resampling.BICUBIC
        ).save(path)
    result = run(
        BenchDecode(images=str(tmp_path), enlarge_to=[320, 240], workers=[0, 1], image_size=32, seconds=0.1, repeats=1)
    )
    assert [entry["first_size"] for entry in result["sets"]] == [[100, 150], [240, 320]]
    for entry in result["sets"]:
        assert [rate["workers"] for rate in entry["rates"]] == [0, 1]
        assert all(rate["ratio"] > 0 for rate in entry["rates"])
        assert entry["quality"]["passed"]
    assert result["sets"][1]["quality"]["decoded_at_reduced_scale"] > 0
    assert "CPU ratio" in capsys.readouterr().out

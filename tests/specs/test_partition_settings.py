"""Settings of a partition that can take no effect are refused; a spec that was written out is read again."""

from typing import Any

import pytest

from kinsight.errors import SpecError
from kinsight.specs.load import as_tree, of
from kinsight.specs.partition import PartitionSpec

_BASE = {"vectors": "vectors.npy", "output": "part"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fit": {"epochs": 0, "lr": 0.1}}, r"fit\.lr=0\.1: has no effect: fit\.epochs=0"),
        ({"fit": {"epochs": 0, "batch_size": 64}}, r"fit\.batch_size=64: has no effect"),
        ({"fit": {"epochs": 0, "warmup_epochs": 3}}, r"fit\.warmup_epochs=3.0: has no effect"),
        ({"fit": {"epochs": 0, "precision": "bf16"}}, r"fit\.precision=bf16: has no effect"),
        ({"fit": {"epochs": 0}, "router": {"kind": "mlp"}}, r"router\.kind=mlp: has no effect: fit\.epochs=0"),
        ({"cluster": {"balance_rounds": 0, "balance_rate": 0.5}}, r"cluster\.balance_rate=0\.5: has no effect"),
    ],
    ids=str,
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        of(PartitionSpec, _BASE | settings)


@pytest.mark.parametrize("settings", [{"fit": {"epochs": 0}}, {"cluster": {"balance_rounds": 0}}], ids=str)
def test_what_was_written_out_is_read_again(settings: dict[str, Any]) -> None:
    spec = of(PartitionSpec, _BASE | settings)
    assert of(PartitionSpec, as_tree(spec)) == spec

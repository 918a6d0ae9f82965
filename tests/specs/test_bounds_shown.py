"""Help shows the bounds of every number that has them; messages name items of lists as users count them."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from kinsight.errors import SpecError
from kinsight.specs.base import Spec
from kinsight.specs.fields import settings
from kinsight.specs.flags import resolve
from kinsight.specs.help import job_help
from kinsight.specs.load import by_import
from kinsight.specs.table import JOBS


class _Numbers(Spec):
    job: Literal["numbers"] = "numbers"
    plain: int = Field(default=1, ge=1, le=1_000_000, description="a number")
    maybe: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, description="one or none")
    shares: list[Annotated[float, Field(ge=0, le=5)]] = Field(default=[0.5], description="some")
    rules: list[Literal["ratio", "air"]] = Field(default=["air"], description="rules")


def test_bounds_of_numbers_alone_and_in_lists():
    found = {setting.name: setting.bounds for setting in settings(_Numbers)}
    assert found == {"plain": "≥ 1, ≤ 1,000,000", "maybe": "> 0, < 1", "shares": "each ≥ 0, ≤ 5", "rules": ""}
    page = job_help("numbers", "", _Numbers, None)
    for bounds in found.values():
        assert bounds in page


@pytest.mark.parametrize("job", ["search", "partition", "partition evaluate", "index build", "train", "serve"])
def test_help_shows_the_bounds_of_settings(job):
    model = by_import(JOBS[job].spec)
    page = " ".join(job_help(job, "", model, None).split())
    for setting in settings(model):
        if setting.bounds and not setting.arms:
            after = page[page.index(f"--{setting.name.replace('_', '-')} ") :]
            assert after.index(f"({setting.bounds})") < len(setting.help) + 60, setting.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rules", "air,ratoi"], r"rules='ratoi' \(item 2 of --rules\): must be .*did you mean ratio\?"),
        (["--shares", "0", "-1"], r"shares='-1' \(item 2 of --shares\): must be greater than or equal to 0"),
        (["--plain", "0"], r"plain='0': must be"),
    ],
)
def test_items_of_lists_are_named_as_they_were_written(words, said):
    with pytest.raises(SpecError, match=said):
        resolve(_Numbers, words)

"""Settings that a bare word gives."""

import pytest
from pydantic import Field

from kinsight.errors import SpecError
from kinsight.specs.base import Spec
from kinsight.specs.flags import resolve
from kinsight.specs.help import job_help


class _Fetch(Spec):
    """Fetch something."""

    name: str = Field(description="what", json_schema_extra={"positional": True})
    files: list[str] = Field(default=[], description="which", json_schema_extra={"positional": True})
    deep: bool = Field(default=False, description="all of it")


def test_words_fill_positional_settings_in_order():
    spec = resolve(_Fetch, ["birds", "--deep", "a.png", "b c, d.png"])
    assert spec == _Fetch(name="birds", files=["a.png", "b c, d.png"], deep=True)
    assert resolve(_Fetch, ["--name", "birds", "a.png"]) == _Fetch(name="birds", files=["a.png"])
    assert "NAME FILES" in job_help("fetch", "", _Fetch, None)


def test_a_word_too_many_is_refused():
    with pytest.raises(SpecError, match=r"'c\.png' is not a flag"):
        resolve(_Fetch, ["birds", "a.png", "--deep", "c.png"])
    with pytest.raises(SpecError, match="name: is needed"):
        resolve(_Fetch, ["--deep"])

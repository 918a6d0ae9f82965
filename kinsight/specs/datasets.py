"""The `data get` job."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from kinsight.specs.base import Spec

DataSetName = Literal["symbols", "omniglot", "fashion-mnist", "cub200", "cars196", "sop", "inshop", "caltech101"]


class DataGetSpec(Spec):
    """Fetch a data set, check and unpack it; ends with lists and a train.yaml that `kinsight train --spec` takes."""

    job: Literal["data get"] = "data get"
    name: DataSetName = Field(
        description=f"which data set: {', '.join(get_args(DataSetName))}", json_schema_extra={"positional": True}
    )
    output: str | None = Field(default=None, description="local folder; default: data/NAME")
    archive: list[str] = Field(
        default=[], description="addresses of files that are at hand already, under the names they are published by"
    )
    mirror: str | None = Field(
        default=None,
        description="address of a folder with the published files, asked instead of their publishers; "
        "default: the environment variable KINSIGHT_MIRROR",
    )
    keep_archives: bool = Field(default=False, description="keep the downloaded archives once they are unpacked")

    @model_validator(mode="after")
    def _settings_take_effect(self) -> "DataGetSpec":
        if self.name == "symbols":
            unused = {"archive", "mirror", "keep_archives"} & self.model_fields_set
            if unused:
                raise ValueError(f"{', '.join(sorted(unused))}: no effect on symbols, which are drawn, not fetched")
        return self

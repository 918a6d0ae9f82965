"""`run_dcnet.py`: train IVFast's network and measure it, or measure one that is there."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from kinsight import storage
from kinsight.compat.ascend import tables
from kinsight.compat.ascend.files import Evaluation, check_dim, evaluation, learn_file, stamp
from kinsight.compat.ascend.log import Log
from kinsight.compat.ascend.settings import check, device_of, metric_of, probes_of, shape_of, spec_of
from kinsight.compat.ascend.training import Training
from kinsight.compat.flags import Values
from kinsight.data.stored import check_npy_vectors, read_npy
from kinsight.errors import DataError, SpecError
from kinsight.partition import Partition
from kinsight.partition.artefact import CENTRES, HEADER, WEIGHTS
from kinsight.partition.identity import Asked, Route, judge
from kinsight.partition.learn import Learning
from kinsight.partition.space import Space
from kinsight.partition.work import Work
from kinsight.progress import say, warn


def run(values: Values) -> None:
    """What the command line says. Raises KinsightError."""
    check(values)
    output = storage.OutputDir(values["save_path"])
    output.check_writable()
    device = device_of(values)
    with output:
        output.pull(lambda name: name.endswith(".log"))
        log = Log(output.path, values["log_interval"])
        (_measured if values["eval"] else _trained)(values, output, device, log)
    say(f"written to  {output.address}")


def _trained(values: Values, output: storage.OutputDir, device: torch.device, log: Log) -> None:
    shape, metric = shape_of(values), metric_of(values)
    learn = learn_file(values, metric)
    check_dim(learn, shape.dim, "the first of --param_list")
    data = evaluation(values, metric, shape.dim, "the first of --param_list")
    probes_of(values, shape.lists)
    spec = spec_of(values, shape, str(learn.place), len(learn), device)
    training = Training(
        spec, output, stamp(learn.place), start=values["start_epoch"], loss_scale=values["scale"], log=log
    )
    log(f"learn {learn.place}: {len(learn):,} x {learn.dim}; param_list {' '.join(map(str, values['param_list']))}")
    partition = training.run(replace(Learning.of(spec), device=device, devices=(device,)))
    output.sync()
    route = Route.learned(partition, device)
    _judged(values, output, route, data, device, log, "ranked by the network", _digest(output.address))


def _measured(values: Values, output: storage.OutputDir, device: torch.device, log: Log) -> None:
    place = storage.Address.parse(values["ai_center"])
    if not storage.exists(place):
        remedy = "give the ivfast.npy that a training wrote to its --save_path"
        raise DataError("dcnet.missing", f"{place} is not there", field="--ai_center", remedy=remedy)
    partition = _beside(place)
    if partition is None:
        metric = metric_of(values)
        centre_LD = _centres(place, metric)
        route = Route.centres(Space(metric, centre_LD.shape[1], 0.0, None), centre_LD, device)
        ranked, digest = "ranked by the centres", hashlib.sha256(storage.read_bytes(place)).hexdigest()
    else:
        metric = partition.header.metric
        if "metric" in values.given and metric_of(values) != metric:
            was = "IP" if metric == "cosine" else "L2" if metric == "l2" else metric
            what = f"{values['metric']}: the model was trained with {was}"
            raise SpecError("dcnet.metric", what, field="--metric", remedy=f"give --metric {was}, or leave it out")
        route, ranked, digest = Route.learned(partition, device), "ranked by the network", _digest(place.parent)
    data = evaluation(values, metric, route.space.dim, f"{place.name}, the model,")
    _judged(values, output, route, data, device, log, ranked, digest)


def _judged(
    values: Values, output: storage.OutputDir, route: Route, data: Evaluation, device: torch.device, log: Log,
    ranked_by: str, model: str,
) -> None:  # fmt: skip
    lists = len(route.clusters.price_L)
    asked = Asked(
        query_QD=data.query_QD,
        truth_QK=data.truth_QK,
        probes=probes_of(values, lists),
        percents=sorted(set(values["percents"])),
        at_once=values["valid_batch_size"],
    )
    settings: dict[str, Any] = {"data": data.stamp, "model": model, "ranked": ranked_by, "metric": route.space.metric}
    settings |= {"probes": list(asked.probes), "percents": list(asked.percents)}
    work = Work(output, settings, overwrite=True, folder=f"work/eval-{data.name}")
    told = judge(route, data.base, asked, work, device)
    name = {"cosine": "IP of unit vectors", "l2": "L2"}.get(route.space.metric, route.space.metric)
    told = {"data_name": data.name, "nlist": lists, "metric": name, "ranked_by": ranked_by, **told}
    names = tables.write(told, storage.Address.parse(str(output.path)))
    log.plain(tables.text(told))
    log(f"table {', '.join(names)}")
    work.clear()


def _beside(place: storage.Address) -> Partition | None:
    """The network that belongs to a file of centres; None, and a warning, where there is none."""
    folder = place.parent
    missing = [name for name in (HEADER, WEIGHTS) if not storage.exists(folder.child(name))]
    if missing:
        warn(f"--ai_center {place}: without {' and '.join(missing)} beside it there is no network; the centres route")
        return None
    partition = Partition.load(folder)
    if (
        place.name != CENTRES
        or hashlib.sha256(storage.read_bytes(place)).hexdigest() != partition.header.files[CENTRES]
    ):
        warn(f"--ai_center {place}: not the centres of the network beside it; the centres route")
        return None
    return partition


def _centres(place: storage.Address, metric: str) -> torch.Tensor:
    centre_LD = read_npy(place)
    check_npy_vectors(place, centre_LD)
    centre_LD = torch.from_numpy(np.array(centre_LD, np.float32, order="C"))
    if not centre_LD.isfinite().all() or len(centre_LD) < 2:
        what = "holds fewer than 2 centres, or NaN"
        raise DataError("dcnet.centres", what, field=str(place), remedy="give the ivfast.npy of a training")
    return torch.nn.functional.normalize(centre_LD, dim=1) if metric == "cosine" else centre_LD


def _digest(folder: storage.Address) -> str:
    return hashlib.sha256(storage.read_bytes(folder.child(WEIGHTS))).hexdigest()

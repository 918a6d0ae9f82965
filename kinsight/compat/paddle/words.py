"""Errors of the jobs in the words of the scripts: who gave `--model` has never heard of `model.backbone`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kinsight.errors import InterruptedRun, KinsightError

_FLAG_OF = {
    "model.backbone": "model",
    "model.pretrained": "pretrained_model",
    "model.init_from": "pretrained_model",
    "head.init_from": "pretrained_model",
    "model.embedding_dim": "embedding_size",
    "batch.size": "train_batch_size",
    "data.num_classes": "class_dim",
    "num_classes": "class_dim",
    "data.train": "data_dir",
    "data.validation": "data_dir",
    "optimizer.lr": "lr",
    "loss.margin_rad": "arc_margin",
    "loss.scale": "arc_scale",
    "loss.margin": "margin",
    "loss.reg_weight": "npairs_reg_lambda",
    "sampler.samples_per_class": "samples_each_class",
    "resume_from": "checkpoint",
    "steps": "total_iter_num",
}
_NAMES = sorted(_FLAG_OF, key=len, reverse=True)
# "steps" is a word of English, too: a setting only where a value follows it.
_SETTING = re.compile(
    rf"(?<![\w./-])({'|'.join(re.escape(name) for name in _NAMES if name != 'steps')}|steps(?==))(?![\w./])"
)


@contextmanager
def in_flags() -> Iterator[None]:
    """Errors raised in the block name flags where they name settings that flags stand for."""
    try:
        yield
    except InterruptedRun:
        raise
    except KinsightError as error:
        field, remedy = (None if text is None else _translated(text) for text in (error.field, error.remedy))
        raise type(error)(error.code, _translated(error.message), field=field, remedy=remedy) from error


def _translated(text: str) -> str:
    return _SETTING.sub(lambda found: f"--{_FLAG_OF[found[1]]}", text)

"""Errors of the jobs in the words of the scripts: who gave `--model` has never heard of `model.backbone`."""

from contextlib import AbstractContextManager

from kinsight.compat.words import Words

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
_WORDS = Words({setting: f"--{flag}" for setting, flag in _FLAG_OF.items()}, words_of_english=["steps"])


def in_flags() -> AbstractContextManager[None]:
    """Errors raised in the block name flags where they name settings that flags stand for."""
    return _WORDS.used()

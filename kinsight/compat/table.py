"""The scripts that `kinsight compat` knows. Strings only: reading this table imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """One script of another system.

    system: whose it is. summary: what it does, in a line.
    flags: import string of its flags. run: import string of `run(values)`.
    help_text: for a script that reads its words itself, `run(words)`: import string of what `--help` prints; no flags.
    """

    system: str
    summary: str
    flags: str
    run: str
    help_text: str = ""


_FLAGS = "kinsight.compat.paddle.flags"
_PADDLE = "PaddlePaddle's metric learning"

SCRIPTS: dict[str, Script] = {
    "train_elem.py": Script(
        _PADDLE, "train with softmax or arcmargin", f"{_FLAGS}:TRAIN_ELEM", "kinsight.compat.paddle.train:train_elem"
    ),
    "train_pair.py": Script(
        _PADDLE,
        "fine-tune with triplet, quadruplet, eml or npairs",
        f"{_FLAGS}:TRAIN_PAIR",
        "kinsight.compat.paddle.train:train_pair",
    ),
    "eval.py": Script(_PADDLE, "measure Recall@1", f"{_FLAGS}:EVAL", "kinsight.compat.paddle.evaluate:run"),
    "infer.py": Script(_PADDLE, "write features", f"{_FLAGS}:INFER", "kinsight.compat.paddle.infer:run"),
    "run_dcnet.py": Script(
        "Ascend's IVFast",
        "learn a partition, measure its recall",
        "kinsight.compat.ascend.flags:RUN_DCNET",
        "kinsight.compat.ascend.run:run",
    ),
    "pai-metric-learning": Script(
        "PAI's console",
        "image metric learning training (raw): PARAMS.yaml with the page's names",
        "",
        "kinsight.compat.pai.metric_learning:run",
        "kinsight.compat.pai.names:help_text",
    ),
}

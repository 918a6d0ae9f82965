"""`kinsight pai`: find what is asked for, translate it, run it.

kinsight pai -name easy_vision_ext -Dcmd train -Dparam_config '...'     a shell's words, as documented
kinsight pai -f commands.txt                                            a script, its lines as a page prints them
kinsight pai -e "pai -name ...; pai -name ..."                          the same as one word
"""

from collections.abc import Callable, Sequence

from kinsight.compat.flags import Flag
from kinsight.compat.pai.parameters import (
    CONVERT_CONFIG,
    EASY_VISION,
    EV_PREDICT,
    OWN_CONFIG,
    PARAM_CONFIG,
    PREDICTION,
    TRAINING,
    Parameter,
    checked,
)
from kinsight.compat.pai.places import reachable
from kinsight.compat.pai.words import PaiCommand, command, commands_in
from kinsight.errors import SpecError

_OPTIONS = ("--dry-run", "--overwrite")
_ELSEWHERE = ("inputTable", "outputTable", "inputTableName", "outputTableName", "selectedColNames", "lifecycle")


def run(words: list[str]) -> int:
    """Run a command, or the commands of a script one after the other. Raises KinsightError."""
    words = [word for word in words if word.strip()]
    if not words or any(word in ("-h", "--help", "help") for word in words):
        print(overview())
        return 0
    options = {word for word in words if word in _OPTIONS}
    commands = _commands([word for word in words if word not in options])
    if not commands:
        raise SpecError("pai.script", "holds no command", field=" ".join(words), remedy="write pai -name ... into it")
    for each in commands:
        with reachable(each):
            _chosen(each)(each, "--dry-run" in options, "--overwrite" in options)
    return 0


def _commands(words: list[str]) -> list[PaiCommand]:
    if words and words[0] in ("-f", "-e"):
        if len(words) != 2:
            raise SpecError("pai.script", f"{words[0]} takes one word", remedy=f"write {words[0]} SCRIPT and no more")
        if words[0] == "-e":
            return commands_in(words[1])
        from kinsight import storage

        return commands_in(storage.read_text(words[1]))
    if len(words) == 1 and words[0].split()[0].lower() == "pai":  # a whole command between quotes
        return commands_in(words[0])
    return [command(words)]


def _chosen(each: PaiCommand) -> Callable[[PaiCommand, bool, bool], None]:
    """What runs the command. Raises SpecError for one that is not known, or incomplete."""
    if table := [name for name in _ELSEWHERE if name in each.value]:
        raise SpecError(
            "pai.maxcompute",
            "MaxCompute's tables are out of reach here",
            field=f"-D{table[0]}",
            remedy="give files: -Dinput_oss_file and -Doutput_oss_file, or TFRecords",
        )
    if each.name == PREDICTION:
        checked(each, EV_PREDICT, "predict")
        from kinsight.compat.pai.predicting import predict

        return predict
    if each.name != TRAINING:
        what = f"{each.name!r}: expected {TRAINING} or {PREDICTION}" if each.name else "must be given"
        raise SpecError("pai.name", what, field="-name", remedy=f"write -name {TRAINING}")
    task = (each.get("cmd") or "").lower()
    checked(each, EASY_VISION, task)
    from kinsight.compat.pai import easy_vision

    match task:
        case "train":
            return easy_vision.train
        case "convert":
            return easy_vision.convert
        case "":
            raise SpecError("spec.needed", "must be given", field="-Dcmd", remedy="write -Dcmd train or -Dcmd convert")
        case _:
            raise SpecError(
                "pai.cmd",
                f"{each.get('cmd')!r}: expected train or convert",
                field="-Dcmd",
                remedy="a training measures and exports its model itself; predictions: -name ev_predict_ext",
            )


def overview() -> str:
    """The page `kinsight pai` prints."""
    return "\n".join(
        [
            "kinsight pai -name NAME -Dparameter value ... [--dry-run] [--overwrite]",
            "kinsight pai -f SCRIPT, kinsight pai -e TEXT: commands as a page prints them",
            "",
            "Runs PAI's image classification. -Dx v, -Dx=v and -Dx = v are the same.",
            "--dry-run prints the settings of the Kinsight job that a command stands for.",
            "",
            f"-name {TRAINING}: train a classifier, or make TFRecords",
            *_rows(EASY_VISION),
            "",
            "within -Dparam_config, for -Dcmd train:",
            *_flag_rows([*PARAM_CONFIG, *OWN_CONFIG]),
            "",
            "within -Dconvert_param_config, for -Dcmd convert:",
            *_flag_rows(CONVERT_CONFIG),
            "",
            f"-name {PREDICTION}: say what images show",
            *_rows(EV_PREDICT),
            "",
            "MaxCompute's tables, and calls of a model from SQL, are out of reach here.",
        ]
    )


def _rows(parameters: Sequence[Parameter]) -> list[str]:
    return [f"  -D{each.name:<26}{each.help}" for each in parameters]


def _flag_rows(flags: Sequence[Flag]) -> list[str]:
    def shown(flag: Flag) -> str:
        if flag.default is None:
            return ""
        return f" [{' '.join(map(str, flag.default)) if flag.many else str(flag.default).lower()}]"

    return [f"  --{flag.name:<26}{flag.help}{shown(flag)}" for flag in flags]

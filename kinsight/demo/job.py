"""The `demo` job: draw symbols, train on half of them, retrieve the other half, search by drawing.

Each step is a command to type.
"""

import json
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from kinsight import progress, storage
from kinsight.demo.symbols import HEADER, VERSION, SymbolSet, draw_symbols
from kinsight.errors import SpecError
from kinsight.evaluation import embed, evaluate
from kinsight.evaluation.evaluate import run as evaluate_and_show
from kinsight.indexing import build
from kinsight.serving.serve import serve
from kinsight.specs.demo import DemoSpec
from kinsight.training import train

# Near-twins of common characters are many, and few know them: on the page, and only there, ordinary ones go first.
PREFERENCE: dict[str, Any] = {"prefer": "ordinary", "prefer_by": 0.08}


def run(spec: DemoSpec, *, overwrite: bool = False) -> dict[str, Any]:
    """Run the demo; returns the metrics on unseen symbols.

    An unfinished demo in the same folder is gone on with; overwrite: train anew.
    """
    started = time.monotonic()
    folder = Path(spec.output)
    storage.make_directory(folder)
    _refuse_other_symbols(spec, folder, overwrite)
    symbols = _draw(spec, folder / "symbols")
    settings = folder / "train.yaml"
    storage.write_text(settings, yaml.safe_dump(_train_settings(spec, folder, symbols), sort_keys=False))
    untrained = _measure_untrained(folder, symbols)
    _show_command("train", "--spec", str(settings))
    _train(settings, folder / "run", overwrite)
    words = {"bundle": str(folder / "run"), "data": {"path": str(symbols.test)}, "output": str(folder / "evaluation")}
    _show_command(
        "evaluate", "--bundle", words["bundle"], "--data.path", str(symbols.test), "--output", words["output"]
    )
    metrics = evaluate_and_show(words).metrics
    _index(folder, symbols, overwrite)
    _conclude(folder, symbols, untrained, metrics, time.monotonic() - started)
    _search_page(spec, folder)
    return metrics


def _refuse_other_symbols(spec: DemoSpec, folder: Path, overwrite: bool) -> None:
    """What was measured and trained before was so on the symbols drawn before."""
    header = folder / "symbols" / HEADER
    before = json.loads(storage.read_text(header))["settings"] if header.exists() else None
    if overwrite:
        storage.remove(folder / "untrained" / "metrics.json")
    elif before is not None and _drawn(before) != {"classes": spec.classes, "seed": spec.seed, "version": VERSION}:
        raise SpecError(
            "demo.other-settings",
            f"holds a demo of {before['classes']} classes and seed {before['seed']}, drawn by version "
            f"{before['version']}",
            field=f"output={spec.output}",
            remedy="choose another output, or --overwrite to replace that demo",
        )


def _drawn(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings.get(name) for name in ("classes", "seed", "version")}


def _draw(spec: DemoSpec, folder: Path) -> SymbolSet:
    progress.say("\n$ python -m kinsight.demo.symbols " + shlex.join([str(folder), "--classes", str(spec.classes)]))
    with progress.task("draw symbols", None, "pictures") as task:

        def count(done: int, total: int) -> None:
            task.total = total
            task.advance(done - task.done)

        symbols = draw_symbols(folder, classes=spec.classes, seed=spec.seed, progress=count)
    seen, unseen = symbols.num_classes["train"], symbols.num_classes["test"]
    progress.say(
        f"drew        {sum(symbols.num_images.values()):,} pictures; {seen} classes to learn, {unseen} kept unseen"
    )
    return symbols


def _train_settings(spec: DemoSpec, folder: Path, symbols: SymbolSet) -> dict[str, Any]:
    return {
        "job": "train",
        "output": str(folder / "run"),
        "data": {
            "train": {"path": str(symbols.train)},
            "validation": {"path": str(symbols.validation)},
            "image_size": 32,
            "color": "gray",
            "crop": 1.0,
            "augment": {"kind": "symbol"},
            "cache": "memory",
            "workers": 2,
        },
        "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": 128, "pooling": {"kind": "flat"}},
        "loss": {"kind": "cosface", "margin": 0.2, "scale": 24.0},
        "optimizer": {"kind": "adamw", "lr": 0.003, "weight_decay": 0.0005},
        "schedule": {"kind": "cosine", "warmup_steps": 50},
        "batch": {"size": 128},
        "epochs": spec.epochs,
        "validate": {"every_epochs": 2},
        "seed": spec.seed,
    }


def _train(settings: Path, run: Path, overwrite: bool) -> None:
    try:
        train(yaml.safe_load(storage.read_text(settings)), overwrite=overwrite)
    except SpecError as error:
        if error.code != "run.finished":
            raise
        progress.say(f"trained already in {run}; --overwrite trains anew")


def _measure_untrained(folder: Path, symbols: SymbolSet) -> dict[str, Any]:
    """What an untrained network retrieves: the number that training must beat."""
    output = folder / "untrained"
    model = {"backbone": "conv4", "pretrained": None, "pooling": {"kind": "flat"}}
    image = {"image_size": 32, "color": "gray", "crop": 1.0}
    _show_command(
        "evaluate",
        "--model.backbone",
        "conv4",
        "--model.pretrained",
        "null",
        "--model.pooling.kind",
        "flat",
        "--image.image-size",
        "32",
        "--image.color",
        "gray",
        "--image.crop",
        "1",
        "--data.path",
        str(symbols.test),
        "--output",
        str(output),
        "--report",
        "null",
    )
    if (output / "metrics.json").exists():
        return json.loads(storage.read_text(output / "metrics.json"))
    data = {"path": str(symbols.test)}
    return evaluate(
        {"model": model, "image": image, "data": data, "output": str(output), "workers": 2, "report": None}
    ).metrics


def _index(folder: Path, symbols: SymbolSet, overwrite: bool) -> None:
    """All symbols, seen and unseen, with their characters, to be searched."""
    embeddings, place = folder / "embeddings", folder / "index"
    bundle = str(folder / "run")
    _show_command(
        "embed",
        "--bundle",
        bundle,
        "--data.path",
        str(symbols.all),
        "--data.format",
        "csv",
        "--output",
        str(embeddings),
    )
    data = {"path": str(symbols.all), "format": "csv"}
    try:
        embed({"bundle": bundle, "data": data, "output": str(embeddings), "workers": 2}, overwrite=overwrite)
    except SpecError as error:
        if error.code != "embed.finished":
            raise
        progress.say(f"embedded already in {embeddings}")
    _show_command("index", "build", "--embeddings", str(embeddings), "--output", str(place), "--overwrite")
    build({"embeddings": str(embeddings), "output": str(place)}, overwrite=True)


def _search_page(spec: DemoSpec, folder: Path) -> None:
    words = {"bundle": str(folder / "run"), "index": str(folder / "index")} | PREFERENCE
    _show_command(
        "serve", *(word for name, value in words.items() for word in (f"--{name.replace('_', '-')}", str(value)))
    )
    if not (spec.console and sys.stdin.isatty() and sys.stderr.isatty()):
        progress.say("not started: no terminal, or --no-console; the command above opens the search page")
        return
    progress.say("draw a symbol, or click one, and find its Unicode character:")
    serve({**words, "port": spec.port if spec.port == 0 or _is_free(spec.port) else 0})


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _show_command(*words: str) -> None:
    progress.say("\n$ kinsight " + shlex.join(words))


def _conclude(folder: Path, symbols: SymbolSet, before: dict, after: dict, seconds: float) -> None:
    progress.say(
        f"\nOn {symbols.num_classes['test']} classes of symbols it has never seen, the nearest of "
        f"{symbols.num_images['test'] - 1:,} pictures shows the same symbol"
        f"\n  before training  {100 * before['recall@1']:.1f} % of the time"
        f"\n  after training   {100 * after['recall@1']:.1f} % of the time (Recall@1)"
        f"\n\nlook at     {folder / 'evaluation/report/index.html'}, {folder / 'run/report/index.html'}"
        f"\nuse it      kinsight.load({str(folder / 'run')!r}).embed(['picture.png'])"
        f"\ntook        {seconds:.0f} s"
    )

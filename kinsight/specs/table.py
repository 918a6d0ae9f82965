"""Job name -> what it is, its spec, its function. Strings only: reading this table imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One verb of the command line.

    summary: its line in `kinsight --help`.
    spec: import string of its spec.
    run: import string of `run(spec, ...)`.
    """

    summary: str
    spec: str
    run: str


@dataclass(frozen=True)
class Command:
    """A verb of the command line that reads its words itself.

    summary: its line in `kinsight --help`. run: import string of `run(words) -> exit code`.
    """

    summary: str
    run: str


COMMANDS: dict[str, Command] = {
    "compat": Command("run a documented command line of another system", "kinsight.compat:run"),
    "pai": Command("run a documented command of PAI's image classification", "kinsight.compat.pai.command:run"),
}

JOBS: dict[str, Job] = {
    "demo": Job(
        "train on embedded symbols, retrieve unseen ones", "kinsight.specs.demo:DemoSpec", "kinsight.demo.job:run"
    ),
    "train": Job("train an embedding model", "kinsight.specs.train:TrainSpec", "kinsight.training:train"),
    "compare": Job(
        "compare losses under one protocol", "kinsight.specs.compare:CompareSpec", "kinsight.comparing.job:run"
    ),
    "evaluate": Job(
        "measure retrieval, or a classifier", "kinsight.specs.evaluate:EvaluateSpec", "kinsight.evaluation.evaluate:run"
    ),
    "embed": Job("turn images into vectors", "kinsight.specs.evaluate:EmbedSpec", "kinsight.evaluation:embed"),
    "predict": Job(
        "say what images show, by a classifier", "kinsight.specs.predict:PredictSpec", "kinsight.predicting:predict"
    ),
    "convert": Job(
        "write labelled images in another form", "kinsight.specs.convert:ConvertSpec", "kinsight.converting:convert"
    ),
    "search": Job(
        "find the nearest items of an index", "kinsight.specs.search:SearchSpec", "kinsight.serving.search_job:run"
    ),
    "partition": Job(
        "learn how to spread vectors over lists", "kinsight.specs.partition:PartitionSpec", "kinsight.partition:run"
    ),
    "partition evaluate": Job(
        "measure a partition beside k-means",
        "kinsight.specs.partition:PartitionEvaluateSpec",
        "kinsight.partition.evaluate:run",
    ),
    "index build": Job(
        "build an index of stored embeddings", "kinsight.specs.index:IndexBuild", "kinsight.indexing:build"
    ),
    "index add": Job("add embeddings to an index", "kinsight.specs.index:IndexAdd", "kinsight.indexing:add"),
    "index delete": Job("delete items from an index", "kinsight.specs.index:IndexDelete", "kinsight.indexing:delete"),
    "index compact": Job(
        "write an index anew without deleted items",
        "kinsight.specs.index_rewrite:IndexCompact",
        "kinsight.indexing:compact",
    ),
    "index merge": Job(
        "make one index of several", "kinsight.specs.index_rewrite:IndexMerge", "kinsight.indexing:merge"
    ),
    "index info": Job("print what an index holds", "kinsight.specs.index:IndexInfo", "kinsight.indexing:info"),
    "serve": Job(
        "answer searches over REST, and on a page", "kinsight.specs.serve:ServeSpec", "kinsight.serving.serve:serve"
    ),
    "data check": Job(
        "find bad images, copies, leaks and wrong labels", "kinsight.specs.check:CheckSpec", "kinsight.checking:check"
    ),
    "data get": Job(
        "fetch a data set, with lists and a train.yaml", "kinsight.specs.datasets:DataGetSpec", "kinsight.datasets:get"
    ),
    "doctor": Job("look at this machine", "kinsight.specs.demo:DoctorSpec", "kinsight.doctor:run"),
    "bench evaluate": Job(
        "time retrieval metrics", "kinsight.specs.bench:BenchEvaluate", "kinsight.bench.evaluate:run"
    ),
    "bench compare": Job(
        "compare with another library's losses",
        "kinsight.specs.bench_compare:BenchCompare",
        "kinsight.bench.compare:run",
    ),
    "bench decode": Job("time image decoding", "kinsight.specs.bench:BenchDecode", "kinsight.bench.decode:run"),
    "bench check": Job(
        "plant faults and find them again", "kinsight.specs.bench:BenchCheck", "kinsight.bench.check:run"
    ),
    "bench tfrecord": Job(
        "time reading of TFRecords", "kinsight.specs.bench_tfrecord:BenchTfrecord", "kinsight.bench.tfrecord:run"
    ),
    "bench train": Job("time the training loop", "kinsight.specs.bench:BenchTrain", "kinsight.bench.train:run"),
    "bench losses": Job(
        "time losses over pairs", "kinsight.specs.bench_losses:BenchLosses", "kinsight.bench.losses:run"
    ),
    "bench labels": Job(
        "compare losses over labels on mosaics",
        "kinsight.specs.bench_labels:BenchLabels",
        "kinsight.bench.labels:run",
    ),
    "bench report": Job("time reports", "kinsight.specs.bench:BenchReport", "kinsight.bench.report:run"),
    "bench serve": Job("time searches over HTTP", "kinsight.specs.bench:BenchServe", "kinsight.bench.serve:run"),
    "bench symbols": Job(
        "recognise symbols drawn by hand", "kinsight.specs.bench:BenchSymbols", "kinsight.bench.symbols:run"
    ),
    "bench rerank": Job(
        "time k-reciprocal re-ranking", "kinsight.specs.bench_rerank:BenchRerank", "kinsight.bench.rerank:run"
    ),
    "bench index": Job(
        "time searches beside other libraries'", "kinsight.specs.bench_index:BenchIndex", "kinsight.bench.index.job:run"
    ),
}

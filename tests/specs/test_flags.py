"""Flags and YAML become one checked spec; faults come back with where, what, expected and the nearest name."""

import json

import pytest

from kinsight.errors import SpecError
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.flags import load_yaml, resolve
from kinsight.specs.help import job_help
from kinsight.specs.load import as_tree, as_yaml, of, spec_class
from kinsight.specs.table import JOBS
from kinsight.specs.train import TrainSpec

NEEDED = ["--output", "runs/x", "--data.train.path", "list.txt"]


def train(*words: str, base: dict | None = None) -> TrainSpec:
    return resolve(TrainSpec, [*NEEDED, *words], base)  # type: ignore[return-value]


def fault(*words: str, base: dict | None = None) -> str:
    with pytest.raises(SpecError) as caught:
        train(*words, base=base)
    return str(caught.value)


def test_defaults_are_the_documented_ones():
    spec = train()
    assert (spec.loss.kind, spec.loss.margin, spec.loss.scale) == ("am-softmax", 0.4, 30.0)
    assert (spec.optimizer.kind, spec.optimizer.lr, spec.optimizer.momentum, spec.optimizer.weight_decay) == (
        "sgd",
        0.03,
        0.9,
        1e-4,
    )
    assert (spec.batch.size, spec.schedule.kind, spec.data.augment.kind) == (64, "cosine", "photo")
    assert (spec.model.backbone, spec.model.embedding_dim) == ("resnet50", 1536)


@pytest.mark.parametrize("flag", ["--loss.margin-deg", "--loss.margin_deg"])
@pytest.mark.parametrize("equals", [True, False])
def test_dashes_underscores_equals_and_spaces_are_one(flag: str, equals: bool):
    words = [f"{flag}=20"] if equals else [flag, "20"]
    spec = train("--loss.kind", "arcface", *words)
    assert (spec.loss.kind, spec.loss.margin_deg, spec.loss.scale) == ("arcface", 20.0, 64.0)


def test_a_setting_without_kind_means_the_default_arm():
    assert train("--loss.margin", "0.2").loss.margin == 0.2


def test_another_kind_drops_what_yaml_set_for_the_old_one():
    base = {"loss": {"kind": "am-softmax", "margin": 0.2, "scale": 10.0, "ce": {"weight": 2.0}}}
    loss = train("--loss.kind", "arcface", base=base).loss
    assert (loss.margin_deg, loss.scale) == (28.6, 64.0)
    assert loss.ce is not None and loss.ce.weight == 2.0, "what both arms declare alike stays"
    assert train("--optimizer.kind", "adamw", base={"optimizer": {"lr": 0.5}}).optimizer.lr == 1e-3
    source = train("--data.train.format", "folder", base={"data": {"train": {"path": "there"}}}).data.train
    assert (source.format, source.path) == ("folder", "list.txt")


def test_the_order_of_flags_does_not_matter():
    one = train("--loss.kind", "arcface", "--loss.scale", "32")
    other = train("--loss.scale", "32", "--loss.kind", "arcface")
    assert one == other and one.loss.scale == 32.0


def test_booleans_lists_null_and_groups():
    assert train("--sync-batchnorm", "false").sync_batchnorm is False
    assert train("--no-sync-batchnorm").sync_batchnorm is False
    assert train("--model.compile").model.compile is True
    assert train("--model.pretrained", "null").model.pretrained is None
    assert train("--schedule.kind", "step", "--schedule.at", "10", "20").schedule.at == [10, 20]
    assert train("--schedule.kind", "step", "--schedule.at=10,20").schedule.at == [10, 20]
    assert train("--ema").ema is not None
    assert train("--ema.decay", "0.9").ema.decay == 0.9
    assert train("--ema", "null", base={"ema": {"decay": 0.9}}).ema is None
    assert train("--ema", base={"ema": {"decay": 0.9}}).ema.decay == 0.9
    extra = train("--extra-losses", "[{kind: supcon, weight: 0.5}]").extra_losses
    assert extra[0].kind == "supcon" and extra[0].weight == 0.5


def test_true_and_false_turn_a_group_on_and_off_in_yaml_as_on_the_command_line():
    assert train(base={"ema": True}).ema == train("--ema").ema == train("--ema", "true", base={"ema": False}).ema
    assert train(base={"ema": False, "report": False}).report is None
    assert train("--ema.decay", "0.9", base={"ema": True}).ema.decay == 0.9
    rerank = of(EvaluateSpec, {"bundle": "b", "data": {"path": "x"}, "output": "o", "rerank": True}).rerank
    assert rerank is not None and rerank == type(rerank)()
    text = fault(base={"ema": "high", "batch": True})
    assert "ema='high': must be a mapping of settings, true for their defaults, or false for none" in text
    assert "batch=True: must be a mapping of settings\n" in f"{text}\n" and "Spec" not in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.pretrained", "none"], "model.pretrained='none': is no weights file; set it to null for random"),
        (["--loss.margn", "1"], "did you mean --loss.margin?"),
        (["--lerning-rate", "1"], "no such flag"),
        (["--loss.margin"], "needs a value"),
        (["stray"], "not a flag"),
        (["--seed", "1", "--seed", "2"], "given twice"),
        (["--loss.kind", "arcfase"], "did you mean arcface?"),
        (["--loss.margin", "3"], "loss.margin='3'"),
        (["--loss.kind", "softmax", "--loss.margin", "0.3"], "softmax has no such setting; it belongs to loss"),
        (["--model.pooling.p", "3"], "it belongs to model.pooling gem"),
        (["--epochs", "3", "--steps", "4"], "give one of them"),
        (["--loss.weight", "2"], "loss.weight has no effect"),
        (["--early-stop.patience", "2"], "needs data.validation"),
        (["--validate.every-epochs", "2"], "needs data.validation"),
        (["--sampler.kind", "per-class", "--batch.size", "63"], "must divide by sampler.samples_per_class"),
        (["--sampler.kind", "hierarchical", "--batch.size", "63"], "must divide by sampler.samples_per_class"),
        (["--sampler.kind", "hierarchical", "--batch.size", "8"], "a batch of 8 holds 2 classes of 4 images"),
        (["--sampler.kind", "triplets"], "must divide by 3"),
        (["--loss.kind", "triplet", "--loss.miner.kind", "consecutive"], "needs sampler.kind=triplets"),
        (["--loss.kind", "vicreg"], "reads no labels"),
        (["--relation.kind", "hierarchy"], "no effect without a loss over pairs"),
        (["--relation.kind", "shared-labels"], "takes one class per image"),
        (["--relation.kind", "shared-labels", "--loss.kind", "npairs"], "takes two images of each class"),
        (["--relation.kind", "hierarchy", "--loss.kind", "supcon", "--relation.weights", "[1, 1, 1]"], "expected 2"),
        (["--model.neck.kind", "cgd", "--model.embedding-dim", "33"], "must divide by 2"),
        (["--model.neck.kind", "cgd", "--model.pooling.kind", "max"], "model.pooling has no effect"),
        (["--schedule.kind", "step", "--schedule.at", "20", "10"], "must rise"),
        (["--seed", "x"], "seed='x'"),
        (["--head.shard", "ranks"], "head.shard='ranks'"),
    ],
)
def test_faults_name_the_setting_and_what_was_expected(words: list[str], expected: str):
    assert expected in fault(*words)


def test_a_setting_of_several_types_is_one_line_without_inner_names():
    text = fault("--task", "multilabel", "--loss.kind", "bce", "--loss.positive-weight", "0")
    assert text.startswith("loss.positive_weight=0.0: must be a number above 0")
    assert "or 'balanced'" in text and text.count("\n") == 0 and "constrained" not in text
    text = fault(base={"data": {"classes": 3}})
    assert text.startswith("data.classes=3: must be text, or a list, each text") and text.count("\n") == 0


def test_what_a_group_says_of_itself_has_full_names():
    text = fault("--schedule.kind", "step", "--schedule.at", "1", "2", "--schedule.learning-rates", "0.1")
    assert text == "schedule.learning_rates=[0.1]: expected 2, one for each of schedule.at=[1, 2]"
    two = {"path": "l.csv", "format": "csv", "label_column": "a", "label_columns": ["b"]}
    assert fault(base={"data": {"train": two}}).startswith("data.train.label_column and label_columns are two ways")
    wrong = {"kind": "vicreg", "variance_weight": 0, "covariance_weight": 0}
    assert fault(base={"extra_losses": [wrong]}).startswith("extra_losses.0: variance_weight=0, covariance_weight=0:")


def test_groups_of_several_kinds_are_switched_off_like_others():
    base = {"data": {"validation": {"path": "v.txt"}}}
    for word in ("null", "off", "false"):
        assert train("--data.validation", word, base=base).data.validation is None
    assert train("--no-data.validation", base=base).data.validation is None
    assert train("--data.validation", "on", base=base).data.validation is not None
    spec = resolve(EvaluateSpec, ["--embeddings", "e", "--output", "o", "--projection", "off"], {"projection": {}})
    assert spec.projection is None  # type: ignore[attr-defined]
    assert "--report: 'high': expected on, off or null" in fault("--report=high")
    assert "--data.validation: 'v.csv': expected on, off or null" in fault("--data.validation=v.csv")


def test_help_lists_the_words_that_a_setting_takes():
    page = " ".join(job_help("predict", "", spec_class("predict"), None).split())
    assert "its embedding (`feature`), or both (classes | features | both)" in page
    assert "(json | address-json)" not in page, "the description has these already"


def test_gamma_set_beside_learning_rates_is_refused_also_at_its_default():
    rates = ["--schedule.kind", "step", "--schedule.at", "1", "--schedule.learning-rates", "0.1"]
    assert "schedule.gamma=0.1 has no effect with learning_rates" in fault(*rates, "--schedule.gamma", "0.1")
    stored = as_tree(train(*rates))
    assert train(base=stored).schedule == train(*rates).schedule, "a stored spec still loads"


def test_a_mistyped_yaml_field_is_answered_with_the_nearest_name():
    text = fault(base={"loss": {"margni": 0.3}, "scheduel": {}})
    assert "loss.margni: no such setting; did you mean loss.margin?" in text
    assert "scheduel: no such setting; did you mean schedule?" in text


def test_yaml_faults_name_the_line():
    with pytest.raises(SpecError, match=r"spec\.yaml:3: is not YAML"):
        load_yaml("a: 1\nb: [1, 2\n", "spec.yaml")
    with pytest.raises(SpecError, match="holds list, not settings"):
        load_yaml("- a\n", "spec.yaml")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "give one of bundle, model, embeddings"),
        (["--bundle", "b"], "data.path is needed"),
        (["--bundle", "b", "--embeddings", "e"], "got bundle, embeddings"),
        (["--bundle", "b", "--data.path", "p", "--image.image-size", "28"], "image has no effect without model"),
        (["--embeddings", "e", "--data.path", "p"], "have no effect with embeddings"),
        (["--embeddings", "e", "--ks", "0"], "every k must be at least 1"),
    ],
)
def test_evaluate_refuses_what_cannot_take_effect(words: list[str], expected: str):
    with pytest.raises(SpecError, match=expected):
        resolve(spec_class("evaluate"), ["--output", "o", *words])


def test_resolved_specs_round_trip_through_yaml_and_json():
    spec = train("--loss.kind", "supcon", "--ema", "--data.validation.format", "csv", "--data.validation.path", "v.csv")
    assert resolve(TrainSpec, [], load_yaml(as_yaml(spec), "x")) == spec
    plain = train("--model.neck.kind", "cgd")
    assert resolve(TrainSpec, [], load_yaml(as_yaml(plain), "x")) == plain
    assert resolve(TrainSpec, [], json.loads(json.dumps(as_tree(spec)))) == spec


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_a_spec_that_explains_itself(job: str):
    from kinsight.specs.fields import settings

    model = spec_class(job)
    assert (model.__doc__ or "").strip()
    for setting in settings(model):
        assert setting.help, f"{job}: {setting.name} has no description"


def test_a_key_given_twice_is_refused_where_it_stands():
    with pytest.raises(SpecError, match=r"run\.yaml:3: 'steps' is given twice"):
        load_yaml("steps: 4\nepochs: null\nsteps: 5\n", "run.yaml")
    with pytest.raises(SpecError, match="'kind' is given twice"):
        load_yaml("loss: {kind: arcface, kind: cosface}", "run.yaml")
    assert load_yaml("a: &x {k: 1}\nb: {<<: *x, l: 2}\nc: {<<: *x, l: 3}", "run.yaml")["c"] == {"k": 1, "l": 3}


def test_an_empty_needed_value_is_a_missing_one():
    with pytest.raises(SpecError, match="output: is needed"):
        resolve(TrainSpec, ["--data.train.path", "x"], {"output": None})


def test_a_whole_group_is_no_setting_and_says_what_to_choose():
    for word in ("null", "off", "none"):
        text = fault("--data.augment", word)
        assert "--data.augment: is a group of settings" in text
        assert "choose --data.augment.kind: photo, symbol, light, none" in text
    assert "choose --data.augment.kind" in fault("--no-data.augment")
    assert "choose --loss.kind: softmax" in fault("--loss", "null")
    assert "as --model.backbone" in fault("--model", "off") and "as --data.train.path" in fault("--data.train", "l.txt")
    for value, shown in ((None, "null"), ("none", "'none'")):
        text = fault(base={"data": {"augment": value}})
        assert text == f"data.augment={shown}: must be a mapping of settings; kind chooses: photo, symbol, light, none"
    assert "or null; format chooses: image-list" in fault(base={"data": {"validation": "v.txt"}})
    with pytest.raises(SpecError, match=r"^data\.train: is needed$"):
        resolve(TrainSpec, ["--output", "o"], {"data": {"train": None}})

"""The dense peer of `bench rerank` is the published algorithm too, and the bench runs."""

import numpy as np
from published_rerank import final_distances

from kinsight.bench.dense_rerank import dense_rerank
from kinsight.bench.rerank import run
from kinsight.specs.bench_rerank import BenchRerank


def test_the_dense_peer_orders_as_the_paper_does():
    rng = np.random.default_rng(0)
    emb_ND = (rng.normal(size=(12, 8)).repeat(9, 0) + 0.8 * rng.normal(size=(108, 8))).astype(np.float32)
    index_NK, first_N = dense_rerank(emb_ND, 20, 6, 0.3, 50)
    value_NK = np.take_along_axis(final_distances(emb_ND, 20, 6, 0.3), index_NK, 1)
    assert (np.diff(value_NK, axis=1) > -1e-5).all()
    assert ((index_NK == first_N[:, None]).sum(1) == 1).all()


def test_both_find_the_same(capsys):
    spec = BenchRerank(both=[600], alone=[], dim=32, repeats=1, threads=[1], depth=30)
    (both,) = run(spec)
    assert both["same_order"] > 0.99 and abs(both["ours_recall@1"] - both["dense_recall@1"]) < 0.005
    assert both["ours_recall@1"] > both["plain_recall@1"]
    assert both["items"] == 600 and both["ours_extra_mb"] >= 0
    assert f"{100 * both['same_order']:.2f} %" in capsys.readouterr().out

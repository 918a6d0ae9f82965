"""From pictures to nearest neighbours with the Python API: python examples/train_and_embed.py [FOLDER].

Draws 60 symbol classes, trains on half of them, measures on the others, stores the vectors of those, and looks up what
is most similar to one picture. Each step has a command of the same name: train, evaluate, embed.
"""

import sys
import tempfile
from pathlib import Path

import torch

import kinsight
from kinsight.demo.symbols import draw_symbols
from kinsight.evaluation import load_embeddings


def main(folder: Path) -> None:
    symbols = draw_symbols(folder / "symbols", classes=60, seed=0, workers=1)
    result = kinsight.train(
        {
            "output": str(folder / "run"),
            "data": {
                "train": {"path": str(symbols.train)},
                "validation": {"path": str(symbols.validation)},
                "image_size": 32,
                "color": "gray",
                "crop": 1.0,
                "augment": {"kind": "symbol"},
                "cache": "memory",
                "workers": 0,
            },
            "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": 64},
            "loss": {"kind": "cosface", "margin": 0.2, "scale": 20},
            "optimizer": {"kind": "adamw", "lr": 0.003},
            "schedule": {"kind": "cosine", "warmup_steps": 10},
            "batch": {"size": 64},
            "epochs": 10,
        }
    )

    test = {"path": str(symbols.test)}
    measured = kinsight.evaluate({"output": str(folder / "test"), "bundle": result.bundle, "data": test, "workers": 0})
    print(f"Recall@1 on unseen symbols: {measured.metrics['recall@1']:.3f}")

    kinsight.embed({"output": str(folder / "vectors"), "bundle": result.bundle, "data": test, "workers": 0})
    gallery = load_embeddings(folder / "vectors")
    address = gallery.uri_N[0].as_py()
    query = torch.from_numpy(kinsight.load(result.bundle).embed([address]))
    similarity, index = kinsight.neighbors.topk(query, gallery.vector_ND, k=4)
    print(f"most similar to {address}:")
    for value, row in zip(similarity[0].tolist(), index[0].tolist(), strict=True):
        print(f"  {value:.3f}  {gallery.uri_N[row].as_py()}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))

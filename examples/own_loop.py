"""Kinsight's losses and metrics in a plain PyTorch loop: python examples/own_loop.py [FOLDER].

Draws 80 symbol classes, trains a small network of its own on half of them, and measures how well it retrieves the other
half. Of Kinsight it uses an ArcFace head and the retrieval metrics; everything else is ordinary torch.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import kinsight
from kinsight.demo.symbols import draw_symbols


def read(listed: Path) -> tuple[Tensor, Tensor]:
    """Images as float (N, 1, 32, 32) around 0 and labels 0, 1, 2, ... int64 (N,) of a list `path name`."""
    rows = [line.rsplit(maxsplit=1) for line in listed.read_text(encoding="utf-8").splitlines()]
    pixels = np.stack([np.asarray(Image.open(listed.parent / path)) for path, _ in rows])
    number = {name: label for label, name in enumerate(dict.fromkeys(name for _, name in rows))}
    return torch.from_numpy(pixels)[:, None].float() / 127.5 - 1, torch.tensor([number[name] for _, name in rows])


def small_net(embedding_dim: int) -> nn.Module:
    """Three convolutions, any network would do."""
    layers: list[nn.Module] = []
    for channels_in, channels_out in ((1, 32), (32, 64), (64, 64)):
        conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(channels_out), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, embedding_dim))


def recall(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose nearest neighbour shows the same symbol."""
    net.eval()
    with torch.inference_mode():
        vectors = net(images)
    net.train()
    return kinsight.metrics.retrieval_metrics(vectors, labels, ks=(1,)).means["recall@1"]


def main(folder: Path) -> None:
    symbols = draw_symbols(folder / "symbols", classes=80, seed=0, workers=1)
    images, labels = read(symbols.train)
    unseen_images, unseen_labels = read(symbols.test)

    torch.manual_seed(0)
    net = small_net(64)
    head = kinsight.losses.ArcFace(num_classes=int(labels.max()) + 1, embedding_dim=64, margin_deg=15, scale=20)
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=0.003)  # the head has weights, too
    print(f"untrained: Recall@1 {recall(net, unseen_images, unseen_labels):.3f} on classes never seen")
    for epoch in range(1, 7):
        losses = []
        for batch in torch.randperm(len(images)).split(64):
            loss, _ = head(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        found = recall(net, unseen_images, unseen_labels)
        print(f"epoch {epoch}: mean loss {np.mean(losses):.2f}, Recall@1 {found:.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))

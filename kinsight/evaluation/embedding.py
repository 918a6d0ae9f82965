"""From images to embeddings, over all processes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight import progress
from kinsight.data import ImageLoader
from kinsight.models import EmbeddingNet
from kinsight.parallel.collectives import rank, world_size
from kinsight.parallel.device import Arithmetic
from kinsight.parallel.groups import gather_rows_on_cpu
from kinsight.parallel.memory import kept_memory

BATCH = 256


@dataclass(frozen=True)
class Embedded:
    """emb_ND: float32 on the CPU, not normalised. index_N: int64 record number of each row, ascending."""

    emb_ND: Tensor
    index_N: np.ndarray


def embed_records(
    net: EmbeddingNet,
    loader: ImageLoader,
    device: torch.device,
    arithmetic: Arithmetic,
    *,
    batch_size: int = BATCH,
    wanted_N: np.ndarray | None = None,
    task: progress.Task | None = None,
) -> Embedded:
    """Embed records of `loader` in evaluation mode; every rank embeds its share and gets all rows.

    wanted_N: int64 ascending record numbers; default: all. Images that cannot be read are left out and named in
    `loader.broken` (of the rank that met them). Raises DataError past the loader's limit.
    """
    wanted_N = np.arange(len(loader.records)) if wanted_N is None else wanted_N
    own_N = np.array_split(wanted_N, world_size())[rank()]
    parts = [own_N[start : start + batch_size] for start in range(0, len(own_N), batch_size)]
    emb_ND = torch.empty(len(own_N), net.embedding_dim)  # filled in place: joining parts would take it twice
    index_N = torch.empty(len(own_N), dtype=torch.int64)
    done = 0
    was_training = net.training
    net.eval()
    try:
        with kept_memory(), torch.inference_mode(), arithmetic.autocast():
            for part, batch in zip(parts, loader.batches((0, part) for part in parts), strict=True):
                if len(batch):
                    rows = slice(done, done + len(batch))
                    emb_ND[rows] = net(batch.images_BCHW.to(device, non_blocking=True)).float()
                    index_N[rows] = batch.index_B
                    done += len(batch)
                if task is not None:
                    task.advance(len(part))
    finally:
        net.train(was_training)
    return Embedded(gather_rows_on_cpu(emb_ND[:done]), gather_rows_on_cpu(index_N[:done]).numpy())

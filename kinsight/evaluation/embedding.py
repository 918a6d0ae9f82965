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
    task: progress.Task | None = None,
) -> Embedded:
    """Embed the records of `loader` in evaluation mode; every rank embeds its share and gets all rows.

    Images that cannot be read are left out and named in `loader.broken`. Raises DataError past the loader's limit.
    """
    own_N = np.array_split(np.arange(len(loader.records)), world_size())[rank()]
    starts = range(0, len(own_N), batch_size)
    was_training = net.training
    net.eval()
    embeddings = [torch.zeros(0, net.embedding_dim)]
    indices = [torch.zeros(0, dtype=torch.int64)]
    try:
        with torch.inference_mode(), arithmetic.autocast():
            for batch in loader.batches((0, own_N[start : start + batch_size]) for start in starts):
                if len(batch):
                    images = batch.images_BCHW.to(device, non_blocking=True)
                    embeddings.append(net(images).float().cpu())
                    indices.append(batch.index_B)
                if task is not None:
                    task.advance(len(batch))
    finally:
        net.train(was_training)
    index_N = gather_rows_on_cpu(torch.cat(indices))
    return Embedded(gather_rows_on_cpu(torch.cat(embeddings)), index_N.numpy())

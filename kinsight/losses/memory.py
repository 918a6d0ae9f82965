"""Embeddings of earlier steps, which a loss over pairs compares the batch with as well."""

import torch
from torch import Tensor, nn

from kinsight.losses.settings import require_like
from kinsight.specs.miners import MemorySpec


class Memory(nn.Module):
    """The last `size` embeddings and targets, without gradient: a ring that overwrites its oldest rows.

    It is neither filled nor used before `warmup_steps` steps: embeddings change too fast at first. Everything is in
    buffers, so that a checkpoint holds it and a resumed training goes on to the same bits. All processes keep the same
    rows, those of the whole batch. Wang et al. 2020.

    target_shape: of one image's target, () for one label.
    """

    emb_MD: Tensor
    target_M: Tensor
    steps: Tensor
    added: Tensor

    def __init__(
        self, size: int, embedding_dim: int, *, warmup_steps: int = 0, target_shape: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        require_like(MemorySpec, size=size, warmup_steps=warmup_steps)
        self.size, self.warmup_steps = size, warmup_steps
        self.register_buffer("emb_MD", torch.zeros(size, embedding_dim))
        self.register_buffer("target_M", torch.full((size, *target_shape), -1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    def rows(self) -> tuple[Tensor, Tensor]:
        """What is kept so far: embeddings (M, D) float32 and targets. Copies, since a step overwrites them."""
        filled = min(int(self.added), self.size)
        return self.emb_MD[:filled].clone(), self.target_M[:filled].clone()

    @torch.no_grad()
    def add(self, emb_BD: Tensor, target_B: Tensor) -> None:
        """Keep the rows of a step, after it was computed; the newest, should they be more than the size."""
        self.steps += 1
        if int(self.steps) <= self.warmup_steps:
            return
        emb_BD, target_B = emb_BD[-self.size :], target_B[-self.size :]
        place_B = (int(self.added) + torch.arange(len(emb_BD), device=emb_BD.device)) % self.size
        self.emb_MD[place_B] = emb_BD.to(self.emb_MD.dtype)
        self.target_M[place_B] = target_B
        self.added += len(emb_BD)

"""Embedding of images that arrive one by one, from many threads.

One thread owns the network. While it computes, requests gather; it then takes all that wait, up to a limit, as one
batch. Nothing waits for company: a lone request goes at once, and under load batches form by themselves.
"""

import queue
import threading
from concurrent.futures import Future

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import RunError
from kinsight.evaluation import Model


class Overloaded(RunError):
    """More requests wait than may; try again later."""


class Embedder:
    """`vector` may be called from any thread; close it, or use it in a `with`.

    max_batch: images per forward pass. max_waiting: images that may wait for one. normalize: whether vectors get unit
    length.
    """

    def __init__(self, model: Model, *, max_batch: int = 32, max_waiting: int = 256, normalize: bool = True) -> None:
        self.model = model
        self._normalize = normalize
        self._max_batch = max_batch
        self._waiting: queue.Queue[tuple[Tensor, Future[np.ndarray]] | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._run, name="kinsight-embed", daemon=True)
        self._thread.start()

    def vector(self, pixels_CHW: Tensor) -> np.ndarray:
        """The vector of an image as the network takes it: float32 (D,). Raises Overloaded."""
        answer: Future[np.ndarray] = Future()
        try:
            self._waiting.put_nowait((pixels_CHW, answer))
        except queue.Full:
            raise Overloaded(
                "serve.overloaded",
                f"{self._waiting.maxsize} images are waiting already",
                remedy="try again in a second",
            ) from None
        return answer.result()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < self._max_batch and not last:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                else:
                    batch.append(following)
            self._answer(batch)
            if last:
                return

    def _answer(self, batch: list[tuple[Tensor, "Future[np.ndarray]"]]) -> None:
        try:
            emb_BD = self.model.vectors(torch.stack([pixels for pixels, _ in batch]), normalize=self._normalize)
        except Exception as error:  # whatever it is, it belongs to those who asked
            for _, answer in batch:
                answer.set_exception(error)
            return
        for (_, answer), vector in zip(batch, emb_BD.numpy(), strict=True):
            answer.set_result(vector)

    def close(self) -> None:
        """Answer what waits, then stop."""
        self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> "Embedder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

"""Comparing losses and the like under one protocol: same network, images, batch and budget for all."""

from kinsight.comparing.job import compare

__all__ = ["compare"]

"""The demo: an embedded set of symbols, and the main job on it."""

from kinsight.demo.job import run

__all__ = ["run"]

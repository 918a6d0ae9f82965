"""Looking at data before a network does: what cannot be read, what repeats, what is labelled wrongly."""

from kinsight.checking.job import CheckResult, check

__all__ = ["CheckResult", "check"]

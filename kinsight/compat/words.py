"""Errors of the jobs in the words of another system: who gave `--model` has never heard of `model.backbone`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from kinsight.errors import InterruptedRun, KinsightError


class Words:
    """word_of: the other system's word for a setting. words_of_english: settings that count only before a value."""

    def __init__(self, word_of: Mapping[str, str], words_of_english: Sequence[str] = ()) -> None:
        self._word_of = word_of
        names = sorted((name for name in word_of if name not in words_of_english), key=len, reverse=True)
        plain = "|".join(re.escape(name) for name in names)
        valued = "".join(f"|{re.escape(name)}(?==)" for name in words_of_english)
        self._setting = re.compile(rf"(?<![\w./-])({plain}{valued})(?![\w./])")

    @contextmanager
    def used(self) -> Iterator[None]:
        """Errors raised in the block name the other system's words where they name settings that these stand for."""
        try:
            yield
        except InterruptedRun:
            raise
        except KinsightError as error:
            field, remedy = (None if text is None else self.translated(text) for text in (error.field, error.remedy))
            raise type(error)(error.code, self.translated(error.message), field=field, remedy=remedy) from error

    def translated(self, text: str) -> str:
        """Settings in a text replaced by the other system's words."""
        return self._setting.sub(lambda found: self._word_of[found[1]], text)

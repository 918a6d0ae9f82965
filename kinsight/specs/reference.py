"""The reference page: `python -m kinsight.specs.reference` writes docs/reference.md; `--check` compares."""

import sys
from pathlib import Path

from kinsight.specs.help import reference
from kinsight.specs.load import spec_class
from kinsight.specs.table import JOBS

PAGE = Path("docs/reference.md")
_HEAD = """# Every setting

Written from `kinsight/specs/` by `just reference`. Each setting is a YAML key (nested at the dots), a flag
(`--loss.margin-deg`, dashes or underscores) and a JSON field. A union is chosen by its `kind` (or `format`).
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *(reference(name, spec_class(name)) for name in JOBS)])


def main(words: list[str]) -> int:
    """Write the page, or with `--check` tell whether it is up to date."""
    if words == ["--check"]:
        fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
        print(f"{PAGE} is {'up to date' if fresh else 'out of date: run `just reference`'}")
        return 0 if fresh else 1
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

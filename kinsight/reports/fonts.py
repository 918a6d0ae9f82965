"""The fonts that matplotlib brings along: where they lie and which characters each one has.

Found without importing matplotlib itself, so that neither its settings folder nor its font cache is touched.
"""

import importlib.util
from functools import cache
from pathlib import Path

from PIL import ImageFont

from kinsight.errors import RunError

# Tried in this order for what DejaVu lacks (Chinese, Japanese, Korean); Pillow looks in the system's font folders.
FALLBACKS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simhei.ttf",
)


@cache
def font_folder() -> Path:
    """Folder of matplotlib's .ttf files. RunError if this matplotlib has none there."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise RunError("fonts.no-matplotlib", "matplotlib is not installed", remedy="pip install matplotlib")
    folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    if not (folder / "DejaVuSans.ttf").is_file():
        raise RunError(
            "fonts.absent",
            f"{folder}: expected DejaVuSans.ttf and the other fonts that matplotlib ships",
            remedy="install matplotlib from its wheel: pip install --force-reinstall matplotlib",
        )
    return folder


@cache
def open_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A face at `size` pixels per em: a stem in `font_folder()` ("DejaVuSans-Bold"), or a path to a font file.

    Laid out glyph by glyph, so that pictures don't depend on which shaping library Pillow was built with.
    """
    path = Path(name) if Path(name).is_absolute() else font_folder() / f"{name}.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def characters(name: str) -> frozenset[int]:
    """Code points that the face draws with a glyph of its own (not with its box for missing ones)."""
    from matplotlib.ft2font import FT2Font  # 0.3 s to import, and only the table of characters needs it

    path = Path(name) if Path(name).is_absolute() else font_folder() / f"{name}.ttf"
    return frozenset(FT2Font(str(path)).get_charmap())


@cache
def fallback_fonts() -> tuple[str, ...]:
    """Paths of the installed fonts among FALLBACKS, best first; often none."""
    found = []
    for name in FALLBACKS:
        try:
            found.append(str(ImageFont.truetype(name, 12).path))
        except OSError:
            continue
    return tuple(found)

"""Which characters are classes of their own, in which faces: the rule, and the table it yields.

    python -m kinsight.demo.alphabet    # writes alphabet.tsv anew

The characters are gone through in order: ORDINARY ones first, then those that more families have, then by code point.
Two drawings are alike when their `distances` is below ALIKE; in one and the same face already below ALIKE_IN_FACE,
because there nothing but the difference of the characters is left. A character of whose drawings half are alike to one
class's is listed beside that class as drawn alike. Of any other, single drawings may still be alike to a class's (the D
of one slanted face to an O): those are left out, and of the rest the faces are kept that differ from each other by
ALIKE. A character with one such face only is no class, unless it is ordinary: the whole world draws one star.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits, punctuation
from unicodedata import name

import numpy as np

from kinsight.demo.glyphs import CELLS, FACES, candidates, distances, family, glyph, signatures
from kinsight.demo.pool import ordered_map

ALIKE = 0.03
ALIKE_IN_FACE = 0.05
SHARE = 0.5  # of an ordinary character's drawings alike to a class: from here on it is that class
SHARE_RARE = 0.2  # of any other's: one that few know must be easier to tell
# What people draw first, in the order in which a class is named: C before c, O before 0, minus before dash.
ORDINARY = (
    *(ascii_uppercase + ascii_lowercase + digits),
    *"←↑→↓↔+-=≠<>≤≥×÷%&@#$€£?!*/\\~∞√∑∫♥★☺✓✗",
    *"↕↖↗↘↙⇐⇒⇔±≈∂∈∀∃☆☹♠♣♦♪",
    *"αβγδεζηθικλμνξοπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
    *punctuation,
)
TABLE = Path(__file__).with_name("alphabet.tsv")

Drawings = dict[str, tuple[list[int], np.ndarray]]  # face -> code points, their signatures


@dataclass(frozen=True)
class Symbol:
    """A class: its character, its genuinely different faces, and the characters left out as drawn too much like it."""

    code: int
    faces: tuple[str, ...]
    alike: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"U+{self.code:04X}"

    @property
    def title(self) -> str:
        return name(chr(self.code), "unnamed")


@cache
def alphabet() -> tuple[Symbol, ...]:
    """The table that ships with the package, by code point."""
    lines = TABLE.read_text(encoding="ascii").splitlines()
    return tuple(_parse(line) for line in lines if not line.startswith("#"))


@cache
def ordinary() -> frozenset[int]:
    """The classes, by code point, that the ORDINARY characters are or are drawn alike of."""
    wanted = {ord(char) for char in ORDINARY}
    return frozenset(symbol.code for symbol in alphabet() if not wanted.isdisjoint((symbol.code, *symbol.alike)))


def find_symbols(workers: int = 1) -> list[Symbol]:
    """The table from the fonts themselves, by code point."""
    drawings: Drawings = dict(zip(FACES, ordered_map(_draw_face, FACES, workers), strict=True))
    drawn = _by_character(drawings)
    place = {ord(char): at for at, char in reversed(list(enumerate(ORDINARY)))}
    rank = {
        code: (place.get(code, len(ORDINARY)), -len({family(FACES[row]) for row in face}), code)
        for code, (face, _) in drawn.items()
    }
    kept = _Kept(sum(len(face) for face, _ in drawn.values()))
    for code in sorted(drawn, key=rank.__getitem__):
        kept.consider(code, *drawn[code], ordinary=code in place)
    return [
        Symbol(code, tuple(FACES[row] for row in faces), tuple(sorted(kept.alike[code])))
        for code, faces in sorted(kept.faces.items())
    ]


@dataclass
class _Kept:
    """The classes so far, and every drawing that stands for one: its own, and those of characters drawn alike."""

    room: int
    faces: dict[int, list[int]] = field(default_factory=dict)  # class -> its faces, as places in FACES
    alike: dict[int, list[int]] = field(default_factory=dict)  # class -> characters drawn alike
    used: int = 0

    def __post_init__(self) -> None:
        self.picture = np.zeros((self.room, CELLS * CELLS), np.float32)
        self.face = np.zeros(self.room, np.int64)
        self.owner = np.zeros(self.room, np.int64)
        self.own = np.zeros(self.room, bool)  # a drawing of the class's own character

    def consider(self, code: int, face: np.ndarray, picture: np.ndarray, *, ordinary: bool) -> None:
        """Make the character a class, or list it beside the class it is drawn alike of, or, with one face, neither."""
        single = len(_different(picture)) == 1
        if single and not ordinary:
            return
        share, least = SHARE if ordinary else SHARE_RARE, 1 if single else 2
        limit = np.where(face[:, None] == self.face[: self.used], ALIKE_IN_FACE, ALIKE)
        hit = distances(picture, self.picture[: self.used]) < limit
        owners = np.unique(self.owner[: self.used][hit.any(0)])
        shares = [hit[:, self.owner[: self.used] == owner].any(1).mean() for owner in owners]
        free = np.flatnonzero(~hit.any(1))
        remaining = free[_different(picture[free])]
        if max(shares, default=0) < share and len(remaining) >= least:
            self.faces[code], self.alike[code] = face[remaining].tolist(), []
            self._add(code, face[free], picture[free], own=True)
            return
        owner = int(owners[np.argmax(shares)])
        self.alike[owner].append(code)
        to_own = hit[:, (self.owner[: self.used] == owner) & self.own[: self.used]].any(1)
        if to_own.mean() >= SHARE:  # or one likeness would lead to the next, from O to D
            self._add(owner, face, picture, own=False)

    def _add(self, owner: int, face: np.ndarray, picture: np.ndarray, *, own: bool) -> None:
        rows = slice(self.used, self.used + len(face))
        self.picture[rows], self.face[rows], self.owner[rows], self.own[rows] = picture, face, owner, own
        self.used = rows.stop


def _draw_face(face: str) -> tuple[list[int], np.ndarray]:
    drawn = [(code, ink) for code in candidates(face) if (ink := glyph(face, code)) is not None]
    return [code for code, _ in drawn], signatures(np.stack([ink for _, ink in drawn]))


def _by_character(drawings: Drawings) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Per character its faces, as ascending places in FACES, and its signatures."""
    having: dict[int, list[tuple[int, int]]] = {}
    for at, face in enumerate(FACES):
        for row, code in enumerate(drawings[face][0]):
            having.setdefault(code, []).append((at, row))
    return {
        code: (np.array([at for at, _ in rows]), np.stack([drawings[FACES[at]][1][row] for at, row in rows]))
        for code, rows in having.items()
    }


def _different(picture: np.ndarray) -> list[int]:
    """Rows of the drawings that are not alike to an earlier one of these."""
    apart = distances(picture, picture) >= ALIKE
    chosen: list[int] = []
    for row in range(len(picture)):
        if apart[row, chosen].all():
            chosen.append(row)
    return chosen


def _parse(line: str) -> Symbol:
    code, faces, alike, _ = line.split("\t")
    return Symbol(int(code, 16), tuple(faces.split(",")), tuple(int(other, 16) for other in alike.split(",") if other))


def format_table(symbols: Iterable[Symbol]) -> str:
    """The table as text: code point, faces, characters drawn alike, name."""
    head = "# code point\tfaces that differ\tleft out as drawn alike\tname\n"
    return head + "".join(
        f"{symbol.code:04X}\t{','.join(symbol.faces)}\t{','.join(f'{o:04X}' for o in symbol.alike)}\t{symbol.title}\n"
        for symbol in symbols
    )


if __name__ == "__main__":
    TABLE.write_text(format_table(find_symbols(workers=2)), encoding="ascii")

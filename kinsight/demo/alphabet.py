"""Which characters are classes of their own, in which faces: the rule, and the table it yields.

    python -m kinsight.demo.alphabet    # writes alphabet.tsv anew

The characters are gone through in order: ORDINARY ones first, then CYRILLIC, then those that more families have, then
by code point. A character that has the same form (`forms`) as a class's own in every face that draws both is listed
beside that class; the same letter in another size (case, superscript) already if it nearly has so in half of them,
because size tells nothing here. Every other character is a class, with those of its faces that genuinely differ from
each other. A character with one such face only is no class, unless it is ordinary: the whole world draws one star.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits, punctuation
from unicodedata import decomposition, name, normalize

import numpy as np

from kinsight.demo.forms import Face, study
from kinsight.demo.glyphs import FACES, distances, family
from kinsight.demo.pool import ordered_map

ALIKE = 0.03  # `glyphs.distances` below which two faces of a character are one drawing
SIZE_SHARE = 0.5  # of their faces in which two sizes of one letter must be near
_SMALL_CAPITAL = "LATIN LETTER SMALL CAPITAL "
# What people draw first, in the order in which a class is named: C before c, O before 0, minus before dash.
ORDINARY = (
    *(ascii_uppercase + ascii_lowercase + digits),
    *"←↑→↓↔+-=≠<>≤≥×÷%&@#$€£?!*/\\~∞√∑∫♥★☺✓✗",
    *"↕↖↗↘↙⇐⇒⇔±≈∂∈∀∃☆☹♠♣♦♪",
    *"αβγδεζηθικλμνξοπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
    *punctuation,
)
CYRILLIC = (*"АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ", *"абвгдежзийклмнопрстуфхцчшщъыьэюя")
PEN_FACES = 3
# The plainest first: closest to how people write.
_PLAIN = ("DejaVuSans", "cmss10", "STIXGeneral", "STIXGeneralItalic", "DejaVuSansMono", "DejaVuSerif")
TABLE = Path(__file__).with_name("alphabet.tsv")


@dataclass(frozen=True)
class Symbol:
    """A class: its character, its genuinely different faces, those of its faces whose lines a pen can follow, plainest
    first, and the characters that have the same form, most ordinary first.
    """

    code: int
    faces: tuple[str, ...]
    pens: tuple[str, ...]
    alike: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"U+{self.code:04X}"

    @property
    def title(self) -> str:
        return name(chr(self.code), "unnamed")

    @property
    def is_ordinary(self) -> bool:
        """Whether it is, or has the form of, what people draw first."""
        return not _ordinary_codes().isdisjoint((self.code, *self.alike))


@cache
def alphabet() -> tuple[Symbol, ...]:
    """The table that ships with the package, by code point."""
    lines = TABLE.read_text(encoding="ascii").splitlines()
    return tuple(_parse(line) for line in lines if not line.startswith("#"))


@cache
def always_drawn() -> frozenset[int]:
    """The classes, by code point, that the ORDINARY and CYRILLIC characters are or have the form of."""
    wanted = {ord(char) for char in (*ORDINARY, *CYRILLIC)}
    return frozenset(symbol.code for symbol in alphabet() if not wanted.isdisjoint((symbol.code, *symbol.alike)))


@cache
def _ordinary_codes() -> frozenset[int]:
    return frozenset(map(ord, ORDINARY))


def find_symbols(workers: int = 1) -> list[Symbol]:
    """The table from the fonts themselves, by code point."""
    return choose(dict(zip(FACES, ordered_map(study, FACES, workers), strict=True)))


def choose(studied: dict[str, Face]) -> list[Symbol]:
    """The table from studied faces, by code point."""
    drawn: dict[int, dict[str, int]] = defaultdict(dict)  # code point -> face -> its row there
    for face, known in studied.items():
        for row, code in enumerate(known.codes):
            drawn[code][face] = row
    place = {ord(char): at for at, char in reversed(list(enumerate((*ORDINARY, *CYRILLIC))))}
    rank = {code: (place.get(code, len(place)), -len({family(face) for face in drawn[code]}), code) for code in drawn}
    same, near = _counted(known.same for known in studied.values()), _counted(known.near for known in studied.values())
    alike: dict[int, list[int]] = {}
    faces: dict[int, list[str]] = {}
    for code in sorted(drawn, key=rank.__getitem__):
        shares = {
            other: (near if _sizes(code, other) else same)[code][other] / len(drawn[code].keys() & drawn[other].keys())
            for other in near[code]
            if other in alike
        }
        fitting = [other for other, share in shares.items() if share >= (SIZE_SHARE if _sizes(code, other) else 1)]
        different = _different(studied, drawn[code])
        if fitting:
            alike[max(fitting, key=lambda other: (shares[other], -rank[other][0]))].append(code)
        elif len(different) > 1 or code in place:
            alike[code], faces[code] = [], different
    return [
        Symbol(code, tuple(faces[code]), _pens(studied, drawn[code]), tuple(others))
        for code, others in sorted(alike.items())
    ]


def _counted(pairs_by_face: Iterable[frozenset[tuple[int, int]]]) -> dict[int, dict[int, int]]:
    """In how many faces each two characters are a pair, either way round."""
    count: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for pairs in pairs_by_face:
        for one, other in pairs:
            count[one][other] += 1
            count[other][one] += 1
    return count


def _sizes(one: int, other: int) -> bool:
    """Whether these are one letter or figure in two sizes or places: capital and small, superscript, small capital."""
    return not _plain_forms(one).isdisjoint(_plain_forms(other))


@cache
def _plain_forms(code: int) -> frozenset[str]:
    """What a character is when its size and place are left aside; itself among it."""
    char = chr(code)
    plain = normalize("NFKC", char) if decomposition(char).startswith("<") else char
    title = name(char, "")
    capital = title.removeprefix(_SMALL_CAPITAL)
    if capital != title and len(capital) == 1:
        plain = capital
    return frozenset({plain, plain.lower(), plain.upper()}) if len(plain) == 1 else frozenset({char})


def _different(studied: dict[str, Face], rows: dict[str, int]) -> list[str]:
    """The faces whose drawings are not alike to an earlier one's of these."""
    faces = list(rows)
    signature = np.stack([studied[face].signature_NC[rows[face]] for face in faces])
    apart = distances(signature, signature) >= ALIKE
    chosen: list[int] = []
    for at in range(len(faces)):
        if apart[at, chosen].all():
            chosen.append(at)
    return [faces[at] for at in chosen]


def _pens(studied: dict[str, Face], rows: dict[str, int]) -> tuple[str, ...]:
    order = [face for face in (*_PLAIN, *FACES) if face in rows]
    fine = [face for face in dict.fromkeys(order) if studied[face].by_pen_N[rows[face]]]
    return tuple(fine[:PEN_FACES])


def _parse(line: str) -> Symbol:
    code, faces, pens, alike, _ = line.split("\t")
    others = tuple(int(other, 16) for other in alike.split(",") if other)
    return Symbol(int(code, 16), tuple(faces.split(",")), tuple(filter(None, pens.split(","))), others)


def format_table(symbols: Iterable[Symbol]) -> str:
    """The table as text: code point, faces, faces a pen can follow, characters of the same form, name."""
    head = "# code point\tfaces that differ\tfaces drawn by pen too\tof the same form\tname\n"
    return head + "".join(
        f"{symbol.code:04X}\t{','.join(symbol.faces)}\t{','.join(symbol.pens)}\t"
        f"{','.join(f'{other:04X}' for other in symbol.alike)}\t{symbol.title}\n"
        for symbol in symbols
    )


if __name__ == "__main__":
    TABLE.write_text(format_table(find_symbols(workers=2)), encoding="ascii")

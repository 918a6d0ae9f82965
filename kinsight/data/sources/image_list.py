"""Image lists: one image a line, `path label [label ...]`.

Where the path ends, by the first rule that fits:

1. `"path" label`: a quoted path, `""` in it for a quote;
2. after the last image suffix (`.jpg`, `.png`, ...) that a separator follows;
3. before the first tab;
4. before the run of integers at the line's end;
5. before the last comma; else before the last space.

Separators are spaces, tabs and commas. Labels that are integers may be separated by any of them. Named labels are
separated by tabs if a tab follows the path, else by commas if there is one, else by spaces: so a name may hold spaces
behind a tab or a comma.
"""

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.data.sources.lines import Lines, ListFile, empty_list, find_list, read_lines
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.data.sources.paths import SUFFIX_PATTERN
from kinsight.data.sources.sniff import text_format
from kinsight.errors import DataError
from kinsight.specs.data import ImageList

_SUFFIX = rf"\.(?i:{SUFFIX_PATTERN})"
_RULES = (
    rf'^(?P<path>(?:[^"].*)?{_SUFFIX})(?P<rest>[ \t,].*)$',
    r'^"(?P<path>(?:[^"]|"")+)"(?P<rest>(?:[ \t,].*)?)$',
    rf'^(?P<path>(?:[^"].*)?{_SUFFIX})(?P<rest>)$',
    r'^(?P<path>[^"\t][^\t]*)(?P<rest>\t.*)$',
    r'^(?P<path>[^"].*?)(?P<rest>(?:[ \t]*[ ,][ \t]*[+-]?[0-9]+)+)$',
    r'^(?P<path>[^"].*?)(?P<rest> *,[^,]*)$',
    r'^(?P<path>[^"](?:.*[^ ])?)(?P<rest> +[^ ]+)$',
    r"^(?P<path>.+)(?P<rest>)$",
)
_QUOTED, _LAST = 1, len(_RULES) - 1
_WORD = re.compile(r"[^\s,\"]+")
_HEADER_IMAGE = {"image", "path", "file", "filename", "file_name", "image_path", "img", "uri", "url"}
_HEADER_LABEL = {"label", "labels", "class", "class_id", "category", "target"}
_HEADER_MORE = {"id", "image_id", "split", "group", "name"}
_INTEGERS = r"^[+-]?[0-9]+(?:[ \t,]+[+-]?[0-9]+)*$"


def read_image_list(source: ImageList, *, labelled: bool) -> Parsed:
    """Parse the list. labelled: a line without a label is an error. Raises DataError naming file and line."""
    file = find_list(source.path)
    path_blocks, label_blocks, count_blocks, line_blocks = [], [], [], []
    for number, lines in enumerate(read_lines(file)):
        if number == 0:
            _refuse_other_format(file, lines)
        path, rest = split_paths(lines.text_N)
        label, count = split_labels(rest)
        _check(file, lines, path, label, count, labelled)
        path_blocks.append(path)
        label_blocks.append(label)
        count_blocks.append(count)
        line_blocks.append(lines.line_N)
    if not path_blocks:
        raise empty_list(file)
    line_N = np.concatenate(line_blocks)
    return Parsed(
        strings(path_blocks),
        strings(label_blocks),
        np.concatenate(count_blocks),
        place=lambda i: file.place(int(line_N[i])),
        line_N=line_N,
        may_have_header=True,
    )


def format_line(path: str, labels: Iterable[int | str]) -> str:
    """A line that `read_image_list` reads back: the path quoted, names that need it behind tabs."""
    texts = [str(label) for label in labels]
    if any("\n" in text or "\r" in text for text in (path, *texts)):
        raise DataError("data.list-line", f"{path!r}: a line break cannot stand in a list", remedy="rename the file")
    quoted = '"' + path.replace('"', '""') + '"'
    return "\t".join((quoted, *texts))


def split_paths(text_N: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Lines into paths and the rest, which begins with its separator (empty: no label)."""
    if (simple := _split_simple(text_N)) is not None:
        return simple
    found = pc.extract_regex(text_N, _RULES[0])
    if not found.null_count:
        return found.field(0), found.field(1)
    places, paths, rests = [], [], []
    left = np.arange(len(text_N))
    for rule, pattern in enumerate(_RULES):
        if rule:
            found = pc.extract_regex(text_N.take(pa.array(left)), pattern)
        hit = found.is_valid().to_numpy(zero_copy_only=False)
        path, rest = (found.field(i).filter(pa.array(hit)) for i in (0, 1))
        paths.append(pc.replace_substring(path, '""', '"') if rule == _QUOTED else path)
        rests.append(rest)
        places.append(left[hit])
        left = left[~hit]
        if not left.size:
            break
    order = pa.array(np.argsort(np.concatenate(places)))
    return pa.concat_arrays(paths).take(order), pa.concat_arrays(rests).take(order)


def _split_simple(text_N: pa.Array) -> tuple[pa.Array, pa.Array] | None:
    """The same for blocks in which every line is two words: five times faster than the rules, which agree."""
    separator = next((mark for mark in " \t," if mark in text_N[0].as_py()), None)
    if separator is None:
        return None
    # A second word with a dot may be the end of a path that holds a space.
    words = pc.match_substring_regex(text_N, rf'^[^ \t,"]+{separator}[^ \t,".]+$')
    if not pc.all(words).as_py():
        return None
    flat = pc.split_pattern(text_N, separator).flatten()
    even = np.arange(0, len(flat), 2)
    return flat.take(pa.array(even)), flat.take(pa.array(even + 1))


def split_labels(rest_N: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """What follows the paths, as flat label texts and int32 counts per line."""
    bare_N = pc.ascii_trim(rest_N, " \t,")
    several = pc.match_substring_regex(bare_N, r"[ \t,]")
    if not several.true_count:
        count = (pc.binary_length(bare_N).to_numpy(zero_copy_only=False) > 0).astype(np.int32)
        return _unquoted(bare_N if count.all() else bare_N.filter(pa.array(count > 0))), count
    integers = pc.match_substring_regex(bare_N, _INTEGERS)
    tabbed = pc.and_not(pc.match_substring(rest_N, "\t"), integers)
    comma = pc.and_not(pc.match_substring(rest_N, ","), pc.or_(integers, tabbed))
    spaced = pc.invert(pc.or_(pc.or_(integers, tabbed), comma))
    kinds = ((integers, r"[ \t,]+"), (tabbed, r"[ ]*\t[ \t]*"), (comma, r"[ ]*,[ ,]*"), (spaced, r" +"))
    places, pieces = [], []
    for mask, separator in kinds:
        if mask.true_count:
            places.append(np.flatnonzero(mask.to_numpy(zero_copy_only=False)))
            pieces.append(pc.split_pattern_regex(bare_N.filter(mask), separator))
    order = pa.array(np.argsort(np.concatenate(places)))
    label_lists = pa.concat_arrays(pieces).take(order)
    # A line without labels splits into one empty text.
    count = pc.list_value_length(label_lists).to_numpy(zero_copy_only=False).astype(np.int32)
    count[pc.equal(bare_N, "").to_numpy(zero_copy_only=False)] = 0
    flat = label_lists.flatten()
    return _unquoted(flat.filter(pc.not_equal(flat, ""))), count


def _unquoted(label_M: pa.Array) -> pa.Array:
    if not pc.any(pc.match_substring(label_M, '"')).as_py():
        return label_M
    return pc.replace_substring_regex(label_M, r'^"([^"]+)"$', r"\1")


def _check(
    file: ListFile, lines: Lines, path_N: pa.Array, label_M: pa.Array, count_N: np.ndarray, labelled: bool
) -> None:
    if labelled and (bare := np.flatnonzero(count_N == 0)).size:
        raise _without_label(file, lines, path_N, int(bare[0]))
    if pc.any(broken := pc.match_substring(label_M, '"')).as_py():
        at = int(np.flatnonzero(broken.to_numpy(zero_copy_only=False))[0])
        line = int(lines.line_N[np.searchsorted(np.cumsum(count_N), at, side="right")])
        raise DataError(
            "data.list-line",
            f"label {label_M[at].as_py()!r} holds a quotation mark",
            field=file.place(line),
            remedy="mend the quotes; for quoted labels that hold commas use `format: csv`",
        )


def _without_label(file: ListFile, lines: Lines, path_N: pa.Array, i: int) -> DataError:
    return DataError(
        "data.label-missing",
        f"no label follows the path {path_N[i].as_py()[:200]!r}",
        field=file.place(int(lines.line_N[i])),
        remedy="write `path label`, with a space, a tab or a comma between them",
    )


def _refuse_other_format(file: ListFile, lines: Lines) -> None:
    first = lines.text_N[0].as_py()
    if kind := text_format(first):
        raise DataError(
            "data.format",
            f"looks like a file of format {kind}, not like an image list",
            field=file.place(int(lines.line_N[0])),
            remedy=f"set `format: {kind}`",
        )
    words = set(_WORD.findall(first.lower()))
    if words & _HEADER_IMAGE and words & _HEADER_LABEL and not words - _HEADER_IMAGE - _HEADER_LABEL - _HEADER_MORE:
        raise DataError(
            "data.format",
            f"is a header line ({first[:80]}), which an image list has none of",
            field=file.place(int(lines.line_N[0])),
            remedy="set `format: csv`, or remove the line",
        )

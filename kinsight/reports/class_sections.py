"""The parts of a page about a classifier, by name and in order."""

from kinsight.reports.class_examples import mistake_section, right_section
from kinsight.reports.class_table import class_table_section
from kinsight.reports.classified import Classified
from kinsight.reports.confusion_section import confusion_section
from kinsight.reports.images import Images
from kinsight.reports.reliability_section import reliability_section


def class_sections(found: Classified) -> dict[str, tuple[str, str]]:
    """name -> (anchor, HTML)."""
    parts: dict[str, tuple[str, str]] = {}
    if found.num_pictures:
        images = Images()
        images.probe([found.uri(row) for row in range(0, len(found), max(1, len(found) // 24))])
        parts["Mistakes"] = ("wrong", mistake_section(found, images))
        if right := right_section(found, images):
            parts["Right ones"] = ("right", right)
    if found.one is not None:
        parts["Confused classes"] = ("confused", confusion_section(found))
    parts["How sure"] = ("sure", reliability_section(found))
    if found.each_class:
        parts["Every label" if found.several is not None else "Every class"] = ("each", class_table_section(found))
    return parts

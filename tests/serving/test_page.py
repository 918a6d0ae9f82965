"""The search page in a browser: drawing, images, searching on, and names that try to be more than text."""

import time
from pathlib import Path

from browser import needs_browser, open_page

pytestmark = needs_browser

FIRST = "document.querySelector('#results b')?.textContent"
PAD = "((box) => [box.left, box.top, box.width])(document.getElementById('pad').getBoundingClientRect())"


def test_drawing_searches_and_a_click_searches_on(server: str):
    with open_page(server) as page:
        page.wait("document.getElementById('about').textContent.includes('24 images')")
        left, top, width = page.evaluate(PAD)
        page.drag(*((left + width * x, top + width * y) for x, y in [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)]))
        page.wait("document.querySelectorAll('#results li').length === 5")
        assert page.evaluate("document.getElementById('latency').textContent").count("ms") >= 1
        assert not page.evaluate("document.getElementById('verdict').hidden")
        page.evaluate("document.querySelector('#results button').click()")
        page.wait(
            "/^#\\d+$/.test(location.hash) && document.getElementById('message').textContent.startsWith('Neighbours')"
        )
        page.evaluate("history.back()")
        page.wait("location.hash === '' && document.getElementById('message').textContent.startsWith('Click')")
        assert not page.evaluate("document.getElementById('draw').hidden")
        page.evaluate("askDrawing(); document.getElementById('clear').click()")
        time.sleep(0.5)
        assert page.evaluate("document.querySelectorAll('#results li').length") == 0
        assert not page.errors


def test_a_drawings_place_and_size_do_not_matter(server: str):
    shapes = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.3, 1.0)]
    answers = []
    for at, size in ((0.05, 0.9), (0.5, 0.3)):
        with open_page(server) as page:
            page.wait("document.getElementById('about').textContent.includes('24 images')")  # the pad stays then
            left, top, width = page.evaluate(PAD)
            page.drag(*((left + width * (at + size * x), top + width * (at + size * y)) for x, y in shapes))
            page.wait("document.querySelectorAll('#results li').length === 5")
            answers.append(
                page.evaluate("[...document.querySelectorAll('#results .similarity')].map((n) => n.textContent)")
            )
    assert [text[:4] for text in answers[0]] == [text[:4] for text in answers[1]]


def _drop(name: str, kind: str, source: str) -> str:
    return f"""(async () => {{
        const data = new DataTransfer();
        data.items.add(new File([{source}], {name!r}, {{type: {kind!r}}}));
        dispatchEvent(Object.assign(new Event("drop", {{cancelable: true}}), {{dataTransfer: data}}));
    }})()"""


def test_a_dropped_image_finds_its_class_and_names_stay_text(server: str, made: Path):
    with open_page(server) as page:
        page.evaluate(_drop("x.png", "image/png", "await (await fetch('/v1/items/13/picture?side=96')).blob()"))
        page.wait(f"{FIRST} === 'D  class <3>'")
        assert page.evaluate("document.getElementById('verdict').className") == "match"
        assert page.evaluate("document.querySelectorAll('#results b class, #results i').length") == 0
        assert not page.errors


def test_what_cannot_be_searched_is_told(server: str):
    with open_page(server) as page:
        page.wait("document.getElementById('about').textContent.includes('24 images')")
        page.evaluate(_drop("note.txt", "text/plain", "'no image'"))
        page.wait("document.getElementById('message').textContent.includes('none of the known formats')")
        page.evaluate(_drop("large.png", "image/png", "new Uint8Array(2000000)"))
        page.wait("document.getElementById('message').textContent.includes('2.0 MB; the server takes up to 1 MB')")
        assert page.evaluate("document.querySelectorAll('#results li').length") == 0


def test_it_fits_a_phone(server: str):
    with open_page(server) as page:
        page.resize(360, 740, phone=True)
        page.evaluate(_drop("x.png", "image/png", "await (await fetch('/v1/items/3/picture?side=96')).blob()"))
        page.wait("document.querySelectorAll('#results li').length === 5")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360

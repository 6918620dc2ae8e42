"""The page in a real browser, where there is one."""

import re
import shutil
import subprocess
from itertools import permutations
from pathlib import Path

import pytest

from spe_dist.extraction.predict.extracted_text import ExtractedEntity, ExtractedRelation, ExtractedText
from spe_dist.extraction.predict.html_page import html_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def text_of(words: str, names: list[str], relations: list[tuple[int, int]]) -> ExtractedText:
    places = [words.index(name) for name in names]
    entities = [ExtractedEntity(at, at + len(name), name, "PER", 0.9) for at, name in zip(places, names, strict=True)]
    found = [ExtractedRelation(head, tail, "knows </script>", 0.8) for head, tail in relations]
    return ExtractedText(words, tuple(entities), tuple(found), ((0, len(words)),))


ON_ONE_LINE = text_of("Ann, Bob & Eve.", ["Ann", "Bob", "Eve"], list(permutations(range(3), 2)))
ON_TWO_LINES = text_of("Ann " + "and then " * 60 + "Zoe.", ["Ann", "Zoe"], [(0, 1), (1, 0)])


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_draws_every_relation(tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_text("".join(html_page([("one", ON_ONE_LINE), ("", ON_TWO_LINES)], ["PER"])))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,900", "--dump-dom"]
    command.append("--virtual-time-budget=10000")  # dump what is there when the page has nothing more to do
    shown = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    one, two = (part.split("</article>")[0] for part in shown.split("<article>")[1:])
    assert re.findall(r">(\d+\. ?\w*)</h2>", shown) == ["1. one", "2."]
    for article, arrows, names in ((one, 6, 6), (two, 2, 4)):  # over two lines a relation is drawn in two parts
        drawing = article[article.index("<svg") : article.index("</svg>")]
        assert drawing.count('class="head"') == arrows
        assert drawing.count(">knows &lt;/script&gt;</text>") == names
        heights = {float(y) for y in re.findall(r"<text [^>]*y=\"(-?[\d.]+)\"", drawing)}
        assert len(heights) >= (4 if article is one else 2)  # not on top of each other
        assert "NaN" not in drawing
    assert "line-height: calc(" in one


def test_a_text_without_anything_and_types_without_end():
    kinds = [f"T{number}" for number in range(30)]
    page = "".join(html_page([("", ExtractedText("", (), (), ()))], kinds))
    assert "(no text)" in page
    hues = re.findall(r"--hue:(\d+)\"", page[: page.index("</header>")])
    assert len(hues) == 30 and len(set(hues)) > 25

"""The page in a real browser, where there is one."""

import json
import re
import shutil
import subprocess
from colorsys import hls_to_rgb
from dataclasses import replace
from html import unescape
from itertools import permutations
from pathlib import Path
from unittest.mock import ANY

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


MARKUP = text_of("<b>Ann</b> & <script>x()</script> " + "w" * 500, ["Ann", "x()"], [(0, 1)])
MARKUP = replace(MARKUP, entities=(MARKUP.entities[0], replace(MARKUP.entities[1], type="LOC", score=0.3)))

# What a person does, one act after the other; each says what is shown and where the keyboard is.
ACTS = """
const active = () => document.activeElement;
const seen = [], note = () => seen.push([
  document.getElementById("shown").value, [...document.querySelectorAll("button b")].map((b) => b.textContent).join(),
  active().tagName, active().textContent.slice(0, 3), document.querySelectorAll("g.on").length,
]);
const press = (key) => active().dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
addEventListener("load", () => document.fonts.ready.then(() => {
  document.body.style.width = "330px"; redraw(); drawAll();
  const wide = document.body.scrollWidth > document.body.clientWidth;
  document.body.style.width = ""; redraw();
  note();
  document.querySelector("[data-least=entity]").value = 0.5; filter(); note();
  document.querySelector("[data-entity=PER]").click(); document.getElementById("some").click(); filter(); note();
  document.getElementById("all").click(); note();
  document.querySelector("article").focus(); note();
  press("ArrowRight"); press("ArrowRight"); note();
  press("Escape"); press("ArrowDown"); note();
  press("Escape"); note();
  document.body.dataset.seen = JSON.stringify({ seen, wide });
}));
"""


def in_browser(page: Path) -> str:
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,900", "--dump-dom"]
    command.append("--virtual-time-budget=10000")  # dump what is there when the page has nothing more to do
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120).stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_draws_every_relation_and_shows_what_is_asked_for(tmp_path: Path):
    page = tmp_path / "page.html"
    texts = [("one", ON_ONE_LINE), ("", ON_TWO_LINES), ("markup", MARKUP)]
    whole = "".join(html_page(texts, ["PER", "LOC"]))
    page.write_text(whole.replace("</body>", f"<script>{ACTS}</script></body>"))
    shown = in_browser(page)
    one, two, _ = (part.split("</article>")[0] for part in re.split("<article[^>]*>", shown)[1:])
    assert re.findall(r">(\d+\. ?\w*)</h2>", shown) == ["1. one", "2.", "3. markup"]
    for article, arrows, names in ((one, 6, 6), (two, 2, 4)):  # over two lines a relation is drawn in two parts
        drawing = article[article.index("<svg") : article.index("</svg>")]
        assert drawing.count('class="head"') == arrows
        assert drawing.count(">knows &lt;/script&gt;</text>") == names
        heights = {float(y) for y in re.findall(r"<text [^>]*y=\"(-?[\d.]+)\"", drawing)}
        assert len(heights) >= (4 if article is one else 2)  # not on top of each other
        assert "NaN" not in drawing
    assert "--room:" in one
    acts = json.loads(unescape(re.search(r'data-seen="([^"]*)"', shown)[1]))
    assert not acts["wide"]
    everything = ("3 texts · 7 entities · 9 relations", "6,1,9")
    assert acts["seen"] == [
        [*everything, "BODY", ANY, 0],
        ["3 texts · 6 entities · 8 relations", "6,0,8", "BODY", ANY, 0],
        ["0 texts · 0 entities · 0 relations", "0,0,0", "BODY", ANY, 0],
        [*everything, "BODY", ANY, 0],
        [*everything, "ARTICLE", ANY, 0],
        [*everything, "LI", "Ann", 2],  # the second relation: its line and its name
        [*everything, "ARTICLE", ANY, 0],
        [*everything, "SUMMARY", ANY, 0],
    ]


def luminance(colour: str) -> float:
    """Of `#rgb`, `#rrggbb` or `hue saturation% lightness%`, as WCAG 2 defines it."""
    if colour.startswith("#"):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        values = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    else:
        hue, saturation, lightness = (float(part.rstrip("%")) for part in colour.split())
        values = list(hls_to_rgb(hue / 360, lightness / 100, saturation / 100))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_can_be_read_in_light_and_dark():
    style = "".join(html_page([], [])).partition("<style>")[2].partition("</style>")[0]
    blocks = re.findall(r":root \{(.*?)\n *\}", style, re.DOTALL)
    light, dark = (dict(re.findall(r"--(\w+): ([^;]+);", block)) for block in blocks)
    assert light.keys() == dark.keys()
    assert not re.findall(r"#[0-9a-f]{3,6}\b", style.rpartition(blocks[1])[2])  # every colour has both
    for scheme in (light, dark):
        pairs = [(scheme[text], scheme[ground]) for text in ("ink", "soft", "name", "hit") for ground in ("paper",)]
        pairs += [(scheme["ink"], scheme["field"]), (scheme["ink"], scheme["hover"]), (scheme["soft"], scheme["hover"])]
        for hue in range(0, 360, 5):
            fill = f"{hue} {scheme['fill']}"
            pairs += [(scheme["ink"], fill), (f"{hue} {scheme['deep']}", fill)]
        for text, ground in pairs:
            low, high = sorted(map(luminance, (text, ground)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_a_text_without_anything_and_types_without_end():
    kinds = [f"T{number}" for number in range(30)]
    page = "".join(html_page([("", ExtractedText("", (), (), ()))], kinds))
    assert "(no text)" in page and "(no texts)" in "".join(html_page([], kinds))
    hues = re.findall(r"--hue:(\d+)\"", page[: page.index("</header>")])
    assert len(hues) == 30 and len(set(hues)) > 25

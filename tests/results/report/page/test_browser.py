"""The page in a real browser, from a file and without a network: what it asks for, and whether it can be read."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from results.report.page.build import Page, page_of
from results.report.page.evidence import gathered
from results.words import RECORD_ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# `make test-page` says that it is to be there, and alone has the time for it.
WANTED = os.environ.get("RESNET_BENCH_BROWSER") == "1"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WANTED, reason="in a browser: make test-page"),
]
# Measures in the page what it says of itself; contrast as WCAG 2 has it, of texts on the page's own background.
MEASURE = """
<script>
function linear(v) { v /= 255; return v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); }
function luminance(c) { return 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]); }
function parts(text) { return (text.match(/[\\d.]+/g) || []).map(Number); }
function background(node) {
  for (; node; node = node.parentElement) {
    const c = parts(getComputedStyle(node).backgroundColor);
    if (c.length >= 3 && (c.length < 4 || c[3] > 0)) return c;
  }
  return [255, 255, 255];
}
window.addEventListener("load", () => {
  const found = {texts: 0, small: [], pale: [], pictures: 0, nameless: 0, wide: 0};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const words = walker.currentNode.textContent.trim();
    if (!words || ["SCRIPT", "STYLE"].includes(node.tagName.toUpperCase())) continue;
    const style = getComputedStyle(node), inside = node.closest("svg");
    found.texts += 1;
    if (parseFloat(style.fontSize) < 12) found.small.push(words);
    const ink = parts(inside ? style.fill : style.color);
    if (inside && ["#010101", "#fefefe"].includes(node.style.fill)) continue;
    if (inside && (ink.join() === "1,1,1" || ink.join() === "254,254,254")) continue;  // on a cell of a map
    const a = luminance(ink), b = luminance(background(node));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.pale.push([words, style.color, contrast]);
  }
  for (const picture of document.querySelectorAll("svg, img")) {
    found.pictures += 1;
    if (picture.getAttribute("role") !== "img" || !picture.getAttribute("aria-label")) found.nameless += 1;
  }
  found.requests = performance.getEntriesByType("resource").map(one => one.name);
  found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  found.contents = document.querySelectorAll("nav a[href^='#']").length;
  document.title = "measured";
  const out = document.createElement("pre");
  out.id = "measured-figures";
  out.textContent = JSON.stringify(found);
  document.body.appendChild(out);
});
</script>
"""


def opened(file: Path, *flags: str) -> tuple[str, str]:
    """The document after it has loaded, and what the browser's console said."""
    assert CHROMIUM is not None
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *flags]
    words += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, "\n".join(line for line in ended.stderr.splitlines() if ":CONSOLE" in line)


def measured(page: Page, folder: Path, *flags: str) -> dict[str, Any]:
    # The page's own policy refuses scripts: that of the copy is left out.
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.html)
    assert html != page.html
    (folder / "measured.html").write_text(html.replace("</body>", f"{MEASURE}</body>"))
    dom, _ = opened(folder / "measured.html", *flags)
    found = re.search(r'<pre id="measured-figures">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-500:]
    text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return dict(json.loads(text))


@pytest.fixture(scope="module")
def record() -> Page:
    return page_of(gathered(RECORD_ROOT, {}, ()))


@pytest.mark.parametrize("flags", [(), ("--force-dark-mode", "--blink-settings=preferredColorScheme=0"),
                                   ("--window-size=390,844",)], ids=["desktop", "dark", "phone"])  # fmt: skip
@pytest.mark.parametrize("which", ["record", "year"])
def test_it_can_be_read(which: str, flags: tuple[str, ...], record: Page, page: Page, tmp_path: Path) -> None:
    found = measured(record if which == "record" else page, tmp_path, *flags)
    assert found["texts"] > 300 and found["pictures"] >= 10 and found["contents"] >= 10
    assert found["small"] == [] and found["pale"] == [] and found["nameless"] == 0
    assert found["requests"] == []
    assert found["wide"] <= 0  # nothing is wider than the window but what scrolls by itself


def test_it_asks_for_nothing_and_says_nothing_on_the_console(record: Page, tmp_path: Path) -> None:
    record.write(tmp_path / "page.html")
    dom, console = opened(tmp_path / "page.html")
    assert "<h1>" in dom and console == ""
    # The test can see what it looks for.
    (tmp_path / "bad.html").write_text(record.html.replace("</body>", "<script>console.log(1)</script></body>"))
    assert "Content Security Policy" in opened(tmp_path / "bad.html")[1]

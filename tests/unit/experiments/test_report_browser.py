"""The report in a real browser: headless Chromium from Debian, a file on disk, no network."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support.report_folders import POLICY, MadeReport

pytestmark = pytest.mark.xdist_group("report")

CHROMIUM, DRIVER = "chromium", "chromedriver"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")  # fmt: skip
LAPTOP, PHONE = (1280, 900), (390, 844)
DEADLINE_S = 60.0
FIGURE = "staleness-0-0"
BESIDE = 2.2
"""How far beside the middle of a cable each of its directions is drawn, units of the picture."""


class Browser:
    """A Chromium that looks at one file at a time, and what it complained of."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, page: Path, size: tuple[int, int] = LAPTOP, *, calm: bool = False) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wish = [{"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wish})
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(page.as_uri())

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Addresses asked for since the page was opened, those inside the page itself left out."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        found = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [address for address in found if not address.startswith(("data:", "blob:"))]

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def every(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def draw(self, key: str) -> None:
        """Bring a figure into view and wait until its plots are there."""
        self.run("document.getElementById(arguments[0]).scrollIntoView({behavior: 'instant'})", f"figure-{key}")
        self.until(
            lambda: self.run(
                "return [...document.querySelectorAll(`#figure-${arguments[0]} .plot`)].every((plot) => plot.data)", key
            )
        )

    def until(self, holds: Callable[[], Any]) -> Any:
        """Wait for something of the browser's own making, which has no event for us."""
        ends_s = time.monotonic() + DEADLINE_S
        while not (found := holds()):
            assert time.monotonic() < ends_s, "the browser did not get there"
            time.sleep(0.05)
        return found

    def picture(self) -> str:
        """The fabric as it is drawn: colours and widths of links, places of transfers, on both sides."""
        drawn: str = self.run("return [...document.querySelectorAll('.tree')].map((tree) => tree.innerHTML).join()")
        return drawn


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    missing = [name for name in (CHROMIUM, DRIVER) if shutil.which(name) is None]
    if missing:
        pytest.fail(f"{' and '.join(missing)} not found: apt-get install chromium chromium-driver")
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which(CHROMIUM) or ""
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which(DRIVER)))
    try:
        yield Browser(driver, downloads)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def page(report: MadeReport) -> Path:
    return report.page


def test_it_loads_without_a_complaint_and_asks_for_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    for key in browser.run("return [...document.querySelectorAll('[data-figure]')].map((card) => card.dataset.figure)"):
        browser.draw(key)
    assert browser.requested() == [page.as_uri()]
    assert browser.complaints() == []
    drawn = browser.run("return document.querySelectorAll('.js-plotly-plot').length")
    assert drawn == len(browser.every(".plot")) == 3 + 3 + 2 + 1 + 2 + 1


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_nothing_is_wider_than_the_window(browser: Browser, page: Path, size: tuple[int, int]) -> None:
    browser.open(page, size)
    for details in browser.every("details"):
        browser.run("arguments[0].open = true", details)
    browser.draw("ranking")
    widths = browser.run("const e = document.documentElement; return [e.scrollWidth, e.clientWidth, innerWidth]")
    assert widths[0] == widths[1] <= widths[2] == size[0]


def test_the_slider_moves_the_picture(browser: Browser, page: Path) -> None:
    browser.open(page)
    slider = browser.one("#time")
    seen = set()
    for _ in range(3):
        browser.run("arguments[0].stepUp(8); arguments[0].dispatchEvent(new Event('input'))", slider)
        seen.add(browser.picture())
    assert len(seen) == 3
    uses = browser.run("return [...document.querySelectorAll('.link')].map((link) => Number(link.dataset.use))")
    assert max(uses) > 0


def test_arrow_keys_move_the_slider_and_say_the_time(browser: Browser, page: Path) -> None:
    browser.open(page)
    slider, before = browser.one("#time"), browser.picture()
    at_s = float(slider.get_attribute("value") or "nan")
    slider.send_keys(Keys.ARROW_RIGHT * 6)
    assert float(slider.get_attribute("value") or "nan") == pytest.approx(at_s + 6 * 0.05)
    assert slider.get_attribute("aria-valuetext") == f"{at_s + 0.3:.2f} seconds"
    assert browser.picture() != before
    slider.send_keys(Keys.HOME)
    assert browser.one("#clock").text == "0.00 s"


def test_a_transfer_is_on_its_path_at_the_share_of_its_time(browser: Browser, page: Path) -> None:
    """Half-way through its time a transfer of an even number of links is at the node in the middle of its path."""
    browser.open(page)
    data = browser.run("return JSON.parse(document.getElementById('data').textContent).scenes[0]")
    left = data["runs"][int(browser.one(".choice[data-side='0']").get_attribute("value") or "-1")]
    transfer = next(t for t in left["transfers"] if t["tier"] == 1)
    (way,) = transfer["ways"]
    middle_s = (way["start"] + way["end"]) / 2
    script = """const slider = document.getElementById('time'); slider.step = 'any'; slider.value = arguments[0];
        slider.dispatchEvent(new Event('input'));
        const dot = document.querySelector(`.side[data-side="0"] [data-request="${arguments[1]}"] circle:last-of-type`);
        const link = document.querySelector(`.side[data-side="0"] [data-link="${arguments[2]}"]`);
        return ['cx', 'cy'].map((name) => Number(dot.getAttribute(name)))
            .concat(['x1', 'y1'].map((name) => Number(link.getAttribute(name))));"""
    x, y, node_x, node_y = browser.run(script, middle_s, transfer["id"], way["links"][2])
    assert (x, y) == pytest.approx((node_x, node_y), abs=2 * BESIDE)


def test_playing_moves_the_time_until_it_is_paused(browser: Browser, page: Path) -> None:
    browser.open(page)
    play = browser.one("#play")
    before = browser.one("#clock").text
    play.send_keys(Keys.ENTER)
    assert play.get_attribute("aria-pressed") == "true"
    browser.until(lambda: browser.one("#clock").text != before)
    play.send_keys(Keys.SPACE)
    assert play.get_attribute("aria-pressed") == "false"
    held = browser.picture()
    browser.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert browser.picture() == held


def test_who_asks_for_less_motion_gets_one_still_a_second(browser: Browser, page: Path) -> None:
    browser.open(page, calm=True)
    script = """const seen = new Set(), done = arguments[0], tree = document.querySelector('.tree');
        const watcher = new MutationObserver(() => seen.add(document.getElementById('clock').textContent));
        watcher.observe(tree, {childList: true, subtree: true, attributes: true});
        document.getElementById('play').click();
        setTimeout(() => { document.getElementById('play').click(); done(seen.size); }, 1600);"""
    assert browser.driver.execute_async_script(script) == 1


def test_two_policies_are_chosen_on_the_same_requests(browser: Browser, page: Path) -> None:
    browser.open(page)
    choice = browser.one(".choice[data-side='1']")
    labels = [option.text for option in choice.find_elements(By.TAG_NAME, "option")]
    assert {label.split(" · ")[1] for label in labels} == {"emulated", "analytic"}
    before = browser.run(
        "return document.querySelectorAll('.tree')[1].innerHTML + document.querySelectorAll('.readout')[1].textContent"
    )
    choice.send_keys("NetKV-Static")
    after = browser.run(
        "return document.querySelectorAll('.tree')[1].innerHTML + document.querySelectorAll('.readout')[1].textContent"
    )
    assert browser.run("return arguments[0].selectedOptions[0].text", choice).startswith("NetKV-Static")
    assert after != before
    browser.run("document.getElementById('moves').open = true")
    browser.until(lambda: len(browser.every("#moves tr")) > 1)
    assert {row.text.split(" · ")[0] for row in browser.every("#moves td:first-child")} == {
        "Round-robin",
        "NetKV-Static",
    }


def test_a_policy_is_switched_off_and_on_by_key(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.draw(FIGURE)
    chip = browser.one(f"#figure-{FIGURE} [data-policy='netkv_full']")
    shown = f"""return [...document.querySelectorAll('#figure-{FIGURE} .plot')].map((plot) =>
        plot.data.filter((trace) => trace.meta === 'netkv_full').every((trace) => trace.visible))"""
    assert browser.run(shown) == [True, True, True]
    chip.send_keys(Keys.SPACE)
    assert chip.get_attribute("aria-pressed") == "false"
    browser.until(lambda: browser.run(shown) == [False, False, False])
    chip.send_keys(Keys.ENTER)
    browser.until(lambda: browser.run(shown) == [True, True, True])


def test_every_control_is_reached_by_tab_and_shows_its_focus(browser: Browser, page: Path) -> None:
    browser.open(page)
    wanted = set(
        browser.run(
            "return [...document.querySelectorAll('main :is(button, select, input)')].map((e, at) => e.dataset.at = at)"
        )
    )
    reached: set[int] = set()
    body = browser.one("body")
    for _ in range(200):
        body = browser.driver.switch_to.active_element
        body.send_keys(Keys.TAB)
        seen = browser.run(
            "const e = document.activeElement; return [e.dataset.at ?? null, getComputedStyle(e).outlineStyle]"
        )
        if seen[0] is not None:
            reached.add(int(seen[0]))
            assert seen[1] != "none"
        if reached == wanted:
            break
    assert reached == wanted


def test_the_data_and_the_picture_are_offered_as_files(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.draw(FIGURE)
    for kind in ("csv", "svg"):
        button = browser.one(f"#figure-{FIGURE} [data-download='{kind}']")
        browser.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
        button.click()
        place = browser.downloads / f"{FIGURE}.{kind}"
        browser.until(place.exists)
        text = place.read_text(encoding="utf-8")
        if kind == "csv":
            assert text.startswith("world,workload,congestion,policy")
            assert text == browser.run(
                "return JSON.parse(document.getElementById('data').textContent).figures[arguments[0]].csv", FIGURE
            )
        else:
            assert text.startswith("<svg")
            assert text.count("Telemetry refresh interval (s)") == 3
            assert "NetKV-Full" in text
    assert browser.complaints() == []


def test_every_picture_has_words_and_every_field_a_name(browser: Browser, page: Path) -> None:
    browser.open(page)
    nameless = """const all = document.querySelectorAll('[role=img], button, select, input, table, nav, .scroll');
        const named = (e) => e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length;
        return [...all].filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 80));"""
    browser.run("document.getElementById('moves').open = true")
    browser.until(lambda: len(browser.every("#moves tr")) > 1)
    assert browser.run(nameless) == []
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


CONTRAST = """
const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, part, at) => sum + part * linear(rgb[at] / 255), 0);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    if (at.matches('.masthead')) return [29, 90, 114];
    const colour = parse(getComputedStyle(at).backgroundColor);
    if ((colour[3] ?? 1) > 0.5) return colour;
  }
  return [255, 255, 255];
};
const says = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
const all = [...document.querySelectorAll('body *')];
return all.filter((e) => says(e) && !e.closest('svg, script, style')).filter((e) => {
  const [high, low] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((one, other) => other - one);
  return (high + 0.05) / (low + 0.05) < 4.5;
}).map((e) => e.outerHTML.slice(0, 90));
"""


def test_text_stands_out_from_its_ground(browser: Browser, page: Path) -> None:
    """WCAG 2.1, 1.4.3: contrast of at least 4.5 for text; the masthead's gradient is taken at its lighter end."""
    browser.open(page)
    assert browser.run(CONTRAST) == []


def test_nothing_that_a_user_wrote_runs(browser: Browser, hostile_report: MadeReport) -> None:
    place = hostile_report.page
    browser.open(place)
    for key in browser.run("return [...document.querySelectorAll('[data-figure]')].map((card) => card.dataset.figure)"):
        browser.draw(key)
    browser.run("document.getElementById('moves').open = true")
    browser.one("#time").send_keys(Keys.ARROW_RIGHT * 4)
    chips = browser.run("return [...document.querySelectorAll('.chip')].map((chip) => chip.textContent)")
    assert POLICY in chips
    assert browser.run("return window.attacked === undefined")
    assert browser.run("return document.querySelectorAll('main img, main script, svg script, svg image').length") == 0
    assert browser.run("return document.querySelectorAll('script').length") == 4
    assert browser.complaints() == []
    assert browser.requested() == [place.as_uri()]

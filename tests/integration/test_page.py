"""The search page in a real browser: headless Chromium, light and dark, by keyboard, and as wide as a phone."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from penstock.core.terms import Weighting
from penstock.fakes import MemoryStore
from tests.conftest import unavailable
from tests.integration.test_http import KEYS, ServedWorker, replace_tenant, served
from tests.unit.test_search import TEXTS, Recorder, scorer, stored

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
LONG = "Water under pressure. " + "It falls and falls. " * 40
HOSTILE = "<img src=x onerror=alert(1)> <b>water</b>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        unavailable("Debian's chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(browser)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def documents() -> MemoryStore:
    """The reranker prefers what has more of the query's words; retrieval, by hashes, prefers anything."""
    return stored(
        ("penstock", "water drives the turbine", LONG),
        ("sea", "salt water"),
        ("hostile", HOSTILE),
        ("poem", "roses are red"),
        title="A title",
    )


class Page:
    """What a user does."""

    def __init__(self, browser: webdriver.Chrome, here: ServedWorker) -> None:
        self.browser = browser
        self.here = here
        browser.get(str(here.client.base_url))
        self.until(lambda: self.one("#served").text)

    def one(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def until(self, true: Any) -> Any:
        return WebDriverWait(self.browser, 15).until(lambda _: true())

    def ask(self, text: str) -> None:
        self.one("#q").clear()
        self.one("#q").send_keys(text + Keys.ENTER)

    def focused(self) -> Any:
        return self.browser.switch_to.active_element

    def problems(self) -> list[Any]:
        """What the browser complains of, but for refused requests, which it tells, too."""
        return [line for line in self.browser.get_log("browser") if "v1/search" not in line["message"]]  # type: ignore[no-untyped-call]


@pytest.fixture
def page(chromium: webdriver.Chrome) -> Iterator[Page]:
    with served(documents(), scorer()) as here:
        made = Page(chromium, here)
        yield made
        assert made.problems() == []


def test_a_search_shows_documents_with_both_scores_and_how_they_moved(page: Page) -> None:
    page.ask("water turbine")
    page.until(lambda: len(page.all("#hits li")) == 4)
    first = page.all("#hits li")[0]
    assert "A title" in first.text
    assert "reranker 0.881" in first.text
    assert "retrieval" in first.text
    assert {mark.text for mark in page.all("#hits li:first-child mark")} == {"water", "turbine"}
    moves = [item.find_element(By.CSS_SELECTOR, ".up, .down, .stayed").text for item in page.all("#hits li")]
    answer = page.here.post("/v1/search", {"query": "water turbine"}).json()
    for rank, (hit, move) in enumerate(zip(answer["hits"], moves, strict=True), 1):
        by = hit["retrieval_rank"] - rank
        assert move == (f"▲ {by} up" if by > 0 else f"▼ {-by} down" if by < 0 else "= stayed")
    status = page.one("#status").text
    assert status.startswith("4 documents · reranked · embed ")
    assert "rerank" in status
    assert len(page.all("#steps span")) == 3


def test_what_is_in_a_document_is_text(page: Page) -> None:
    page.ask("water")
    page.until(lambda: page.all("#hits li"))
    assert HOSTILE in page.one("#hits").text
    assert page.all("#hits img") == []


def test_a_long_text_is_cut_around_what_was_found_and_shown_whole_on_demand(page: Page) -> None:
    page.ask("pressure falls")
    page.until(lambda: page.all(".more"))
    item = page.one("#hits li:has(.more)")
    assert len(item.find_element(By.CSS_SELECTOR, "p").text) < 450
    item.find_element(By.CSS_SELECTOR, ".more").click()
    assert len(item.find_element(By.CSS_SELECTOR, "p").text) > 800


def test_a_switch_changes_what_is_found_by_and_each_way_says_where_it_found_it(chromium: webdriver.Chrome) -> None:
    with served(stored(*TEXTS, terms=Weighting()), None) as here:
        page = Page(chromium, here)
        assert page.one("input[value=hybrid]").is_selected()
        page.ask("turbine")
        page.until(lambda: page.all("#hits li"))
        assert page.one("#hits li:first-child .chip").text == "hydro"
        assert re.search(
            r"vectors -?\d\.\d\d \(\d\.\)\nwords 1\.00 \(1\.\)", page.one("#hits li:first-child .facts").text
        )
        assert "no words" in page.one("#hits li:last-child .facts").text
        page.one("input[value=sparse]").click()
        page.until(lambda: len(page.all("#hits li")) == 1)
        assert "retrieval 1.000" in page.one("#hits").text
        assert chromium.current_url.endswith("?q=turbine&mode=sparse")
        chromium.refresh()
        page.until(lambda: len(page.all("#hits li")) == 1)
        page.one("input[value=dense]").click()
        page.until(lambda: len(page.all("#hits li")) == len(TEXTS))
        assert page.problems() == []


def test_where_there_are_no_words_there_is_no_switch(page: Page) -> None:
    assert not page.one("#modes").is_displayed()
    assert page.one("#rerank").is_displayed()


def test_the_keyboard_suffices(page: Page) -> None:
    assert page.focused().get_attribute("id") == "q"
    page.ask("water")
    page.until(lambda: page.all("#hits li"))
    page.focused().send_keys(Keys.ARROW_DOWN)
    assert page.focused() == page.all("#hits li")[0]
    page.focused().send_keys("j")
    assert page.focused() == page.all("#hits li")[1]
    page.focused().send_keys("k", Keys.ARROW_UP)
    assert page.focused().get_attribute("id") == "q"
    page.focused().send_keys(Keys.ARROW_DOWN, "/")
    assert page.focused().get_attribute("id") == "q"
    page.focused().send_keys(Keys.ARROW_DOWN, Keys.ESCAPE)
    assert page.focused().get_attribute("id") == "q"


def test_filter_instruction_and_rerank_go_with_the_query_and_stay_in_the_address(page: Page) -> None:
    page.one("#options summary").click()
    page.one("#filter").send_keys('{"field": "document", "equals": "sea"}')
    page.one("#instruction").send_keys("find water")
    page.one("#rerank").click()
    page.ask("water")
    page.until(lambda: len(page.all("#hits li")) == 1)
    assert "not reranked: the query asked for none" in page.one("#status").text
    page.browser.refresh()
    page.until(lambda: len(page.all("#hits li")) == 1)
    assert page.one("#filter").get_attribute("value") == '{"field": "document", "equals": "sea"}'
    assert not page.one("#rerank").is_selected()


def test_mistakes_are_told_beside_the_search_box(page: Page) -> None:
    page.one("#options summary").click()
    page.one("#filter").send_keys("{nonsense")
    page.ask("water")
    page.until(lambda: "bad" in page.one("#status").get_attribute("class"))
    assert page.one("#status").text.startswith("filter: ")
    page.one("#filter").clear()
    page.one("#filter").send_keys('{"field": "colour", "equals": "red"}')
    page.ask("water")
    page.until(lambda: "there is no field 'colour'" in page.one("#status").text)
    assert page.all("#hits li") == []


def test_nothing_found_is_said(page: Page) -> None:
    page.one("#options summary").click()
    page.one("#tenant").send_keys("nobody")
    page.ask("water")
    page.until(lambda: page.one("#status").text.startswith("nothing found"))


def test_with_keys_the_page_asks_for_one_and_works_with_it(chromium: webdriver.Chrome) -> None:
    store = documents()
    store.upsert([replace_tenant(point, "acme") for point in store.points.values()])
    with served(store, scorer(), keys=KEYS) as here:
        page = Page(chromium, here)
        page.ask("water")
        page.until(lambda: "a key is needed" in page.one("#status").text)
        assert page.focused().get_attribute("id") == "key"
        assert not page.one("#tenant").is_displayed()
        page.focused().send_keys(KEYS["acme"][0] + Keys.ENTER)
        page.until(lambda: page.all("#hits li"))
        assert KEYS["acme"][0] not in chromium.current_url
        page.problems()


def test_an_outage_is_told_with_when_to_come_back(chromium: webdriver.Chrome) -> None:
    store: Any = Recorder(documents())
    store.away = True
    with served(store, scorer()) as here:
        page = Page(chromium, here)
        page.ask("water")
        page.until(lambda: page.one("#status").text == "away; try again in 2 s")
        page.problems()


def test_it_fits_a_phone_and_follows_the_systems_colours(page: Page) -> None:
    page.ask("water")
    page.until(lambda: page.all("#hits li"))
    ground = {}
    for scheme in ("light", "dark"):
        given = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", given)
        ground[scheme] = page.one("body").value_of_css_property("background-color")
    assert ground["light"] != ground["dark"]
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        page.one("#options summary").click()
        widths = page.browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1] == PHONE["width"]
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

"""The search page in a real browser: headless Chromium, light and dark, by keyboard, and as wide as a phone."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Point
from penstock.core.records import Partition, Record
from penstock.core.terms import Weighting
from penstock.fakes import MemoryStore
from tests.conftest import unavailable
from tests.integration.test_http import KEYS, LIMITS, ServedWorker, replace_tenant, served
from tests.unit.test_search import EMBEDDER, TEXTS, TOKENIZER, Recorder, scorer, stored

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
        """What is shown anew between two looks is looked at again."""
        waiting = WebDriverWait(self.browser, 15, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: true())

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
        assert page.one("#key-field").text.startswith("This worker asks for an API key.")
        page.ask("water")
        page.until(lambda: "a key is needed" in page.one("#status").text)
        assert page.focused().get_attribute("id") == "key"
        assert not page.one("#tenant").is_displayed()
        page.focused().send_keys("another key here" + Keys.ENTER)
        page.until(lambda: "This key is not known here." in page.one("#key-field").text)
        page.one("#key").clear()
        page.one("#key").send_keys(KEYS["acme"][0] + Keys.ENTER)
        page.until(lambda: page.all("#hits li"))
        assert KEYS["acme"][0] not in chromium.current_url
        page.problems()


SCRIPTS = {
    "zh": ("水力发电站的水轮机由下落的水推动。" * 30, "水轮机", "水轮机"),
    "th": ("กังหันน้ำหมุนด้วยแรงของน้ำที่ตกลงมา" * 20, "กังหันน้ำ", "กังหันน้ำ"),
    "ko": ("발전소의 터빈은 물로 돌아간다. " * 30, "터빈", "터빈"),
    "cpp": ("An old git with C++ in it.", "git and C++", "git"),
    "he": ("הטורבינה מסתובבת במים", "הטורבינה", "הטורבינה"),
}
LIMITS_OF_FIELDS = replace(LIMITS, filter_fields={"section": "keyword", "year": "integer", "even": "bool"})


def library() -> MemoryStore:
    """Forty notes of two sections, and a handbook in five chunks that overlap."""
    store = MemoryStore(Weighting())
    for n in range(40):
        metadata = {
            "section": "energy" if n % 4 else "plants",
            "year": 2000 + n % 3,
            "even": n % 2 == 0,
            "home": f"https://example.org/{n}",
        }
        store.upsert([_point(f"note-{n:02}", f"Note {n}: water and a turbine.", metadata)])
    pieces = [f"{'Of pipes. ' * n}Part {n} of the handbook: penstock valves." for n in range(5)]
    at, chunks = 0, []
    for text in pieces:
        chunks.append(Chunk(text, at, at + len(text), text))
        at += len(text) - 8
    store.upsert([_point("handbook", chunk.text, {}, number, chunk) for number, chunk in enumerate(chunks)])
    return store


def _point(name: str, text: str, metadata: dict[str, Any], number: int = 0, chunk: Chunk | None = None) -> Point:
    record = Record(Partition("t", 0), 0, None, None)
    event = Event(record, DocumentKey("", name), Order(1, 1), Op.UPSERT, name.title(), metadata=metadata)
    part = chunk or Chunk(text, 0, len(text), text)
    return Point(
        event, number, 1, (part.hash,) if number == 0 else (), part, EMBEDDER.embed(TOKENIZER.encode([text]))[0]
    )


@pytest.fixture
def shelves(chromium: webdriver.Chrome) -> Iterator[Page]:
    with served(library(), scorer(), limits=LIMITS_OF_FIELDS, examples=["a turbine in water"]) as here:
        made = Page(chromium, here)
        made.until(lambda: made.one("#start").is_displayed())
        yield made
        assert made.problems() == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_was_found_is_marked_in_any_script(chromium: webdriver.Chrome, script: str) -> None:
    text, query, marked = SCRIPTS[script]
    with served(stored((script, text), terms=Weighting()), None) as here:
        page = Page(chromium, here)
        page.ask(query)
        page.until(lambda: page.all("#hits li"))
        assert marked in {mark.text for mark in page.all("#hits mark")}
        assert len(page.one("#hits p").text) < 450
        direction = page.one("#hits p").value_of_css_property("direction")
        assert direction == ("rtl" if script == "he" else "ltr")
        assert page.problems() == []


def test_the_start_page_says_how_many_documents_there_are_and_what_to_ask(shelves: Page) -> None:
    assert shelves.one("#amount").text == "41 documents to search"
    shelves.one("#examples button").click()
    shelves.until(lambda: len(shelves.all("#hits li")) == 10)
    assert shelves.one("#q").get_attribute("value") == "a turbine in water"
    assert not shelves.one("#start").is_displayed()


def test_values_of_declared_fields_narrow_the_search_by_a_click(shelves: Page) -> None:
    values = {button.text: button for button in shelves.all(".facet button")}
    assert {"energy 30", "plants 10", "2000 14"} <= values.keys()
    shelves.ask("water")
    shelves.until(lambda: shelves.all("#hits li"))
    next(button for button in shelves.all(".facet button") if button.text == "plants 10").click()
    shelves.until(lambda: all("section: plants" in item.text for item in shelves.all("#hits li")))
    assert shelves.focused().text == "plants 10"
    assert shelves.focused().get_attribute("aria-pressed") == "true"
    shelves.browser.refresh()
    shelves.until(lambda: len(shelves.all("#hits li")) == 10)
    assert all("section: plants" in item.text for item in shelves.all("#hits li"))


def test_more_results_come_behind_those_that_are_there(shelves: Page) -> None:
    shelves.ask("water turbine")
    for amount in (10, 20, 30, 40):
        shelves.until(lambda amount=amount: len(shelves.all("#hits li")) == amount)
        shelves.one("#further").click()
    shelves.until(lambda: len(shelves.all("#hits li")) == 41)
    names = [item.find_element(By.CSS_SELECTOR, ".chip").text for item in shelves.all("#hits li")]
    assert len(set(names)) == 41
    assert [rank.text for rank in shelves.all("#hits .rank")] == [f"{n}." for n in range(1, 42)]
    assert not shelves.one("#further").is_displayed()


def test_more_results_are_those_of_the_search_that_is_shown(shelves: Page) -> None:
    shelves.ask("water turbine")
    shelves.until(lambda: len(shelves.all("#hits li")) == 10)
    shelves.one("#q").send_keys(" handbook")
    shelves.one("#further").click()
    shelves.until(lambda: len(shelves.all("#hits li")) == 20)
    names = [item.find_element(By.CSS_SELECTOR, ".chip").text for item in shelves.all("#hits li")]
    body = {"query": "water turbine", "offset": 0, "top_k": 20}
    answer = shelves.here.post("/v1/search", body).json()
    assert names == [hit["document"] for hit in answer["hits"]]


@pytest.mark.parametrize("value", ["2001 13", "true 20"])
def test_numbers_and_truth_values_narrow_as_well(shelves: Page, value: str) -> None:
    shelves.ask("water")
    shelves.until(lambda: shelves.all("#hits li"))
    next(button for button in shelves.all(".facet button") if button.text == value).click()
    wanted = f"year: {value[:4]}" if value[0] == "2" else "even: true"
    shelves.until(lambda: shelves.all("#hits li") and all(wanted in item.text for item in shelves.all("#hits li")))
    shelves.until(lambda: "documents" in shelves.one("#status").text)


@pytest.mark.parametrize("query", ["in=null&in=5&in=[1,2]&in={}", "narrowed=x", "in=[", "mode=none&doc="])
def test_an_address_that_is_not_ours_breaks_nothing(shelves: Page, query: str) -> None:
    shelves.browser.get(f"{shelves.here.client.base_url}/?q=water&{query}")
    shelves.until(lambda: len(shelves.all("#hits li")) == 10)
    shelves.until(lambda: shelves.all(".facet button"))


def test_a_document_that_is_opened_twice_is_shown_once(shelves: Page) -> None:
    shelves.ask("penstock valves")
    shelves.until(lambda: shelves.all("#hits li"))
    script = "go({...asItIs(), doc: 'handbook'}); showDocument('handbook'); showDocument('handbook');"
    shelves.browser.execute_script(script)
    shelves.until(lambda: len(shelves.all("#chunks li")) >= 5)
    shelves.browser.execute_async_script("setTimeout(arguments[0], 500)")
    assert len(shelves.all("#chunks li")) == len(shelves.all("#strip i")) == 5


def test_back_and_forward_bring_searches_again(shelves: Page) -> None:
    for text in ("water", "handbook"):
        shelves.ask(text)
        shelves.until(lambda text=text: text in shelves.one("#hits li:first-child").text.lower())
    shelves.browser.back()
    shelves.until(lambda: "water" in shelves.one("#hits li:first-child").text)
    assert shelves.one("#q").get_attribute("value") == "water"
    shelves.browser.back()
    shelves.until(lambda: shelves.one("#start").is_displayed())
    shelves.browser.forward()
    shelves.until(lambda: shelves.all("#hits li"))
    assert shelves.one("#q").get_attribute("value") == "water"


def test_results_lead_to_their_addresses_and_to_the_whole_document(shelves: Page) -> None:
    shelves.ask("penstock valves")
    shelves.until(lambda: shelves.all("#hits li"))
    link = shelves.one('#hits a[href^="https://example.org/"]')
    assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noopener noreferrer", "_blank")
    shelves.focused().send_keys(Keys.ARROW_DOWN)
    shelves.focused().send_keys(Keys.ENTER)
    shelves.until(lambda: len(shelves.all("#chunks li")) == 5)
    assert "doc=handbook" in shelves.browser.current_url
    text = shelves.one("#document").text
    assert "Handbook" in text
    assert "5 chunks, 268 characters" in text
    places = [place.text.split(" · ")[:2] for place in shelves.all("#chunks .place")]
    assert places[:2] == [["chunk 0", "characters 0 to 40"], ["chunk 1", "characters 32 to 82"]]
    assert shelves.all("#chunks .again")[0].text == "Of pipes."[:8]
    assert len(shelves.all("#strip i")) == 5
    assert len(shelves.all("#chunks .found")) == 1
    shelves.focused().send_keys(Keys.ESCAPE)
    shelves.until(lambda: not shelves.one("#document").is_displayed())
    assert "doc=" not in shelves.browser.current_url
    shelves.browser.back()
    shelves.until(lambda: len(shelves.all("#chunks li")) == 5)
    shelves.browser.refresh()
    shelves.until(lambda: len(shelves.all("#chunks li")) == 5)


def test_what_is_read_aloud_is_the_count_only(shelves: Page) -> None:
    live = shelves.all("[role=status], [role=alert], [aria-live]")
    assert [element.get_attribute("id") for element in live] == ["said"]
    shelves.ask("water")
    shelves.until(lambda: shelves.one("#said").get_attribute("textContent") == "10 documents")
    assert "ms" in shelves.one("#status").text


AXE = Path(str(resources.files("axe_core_python") / "axe.min.js"))
CONTRAST = """
const luminance = (rgb) => rgb.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
  .map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
  .reduce((sum, part, i) => sum + part * [.2126, .7152, .0722][i], 0);
const controls = "input:not([type=checkbox]):not([type=radio]), textarea, button:not(.more), summary";
return [...document.querySelectorAll(controls)]
  .filter((one) => one.checkVisibility()).map((one) => {
    const edge = one.matches("summary") ? one.parentElement : one;
    const colours = [getComputedStyle(edge).borderTopColor, getComputedStyle(document.body).backgroundColor];
    const [border, ground] = colours.map(luminance);
    return [edge.id || edge.textContent, (Math.max(border, ground) + .05) / (Math.min(border, ground) + .05)];
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_is_accessible_at_any_width_in_both_schemes(shelves: Page, width: int, scheme: str) -> None:
    run = shelves.browser.execute_cdp_cmd
    run("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    run("Emulation.setDeviceMetricsOverride", PHONE | {"width": width, "height": 900, "mobile": width < 500})
    try:
        for state in ("start", "results", "document"):
            if state == "results":
                shelves.one("#options summary").click()
                shelves.ask("penstock valves")
                shelves.until(lambda: shelves.all("#hits li"))
            if state == "document":
                shelves.one("#hits li h2 a").click()
                shelves.until(lambda: shelves.all("#chunks li"))
            widths = shelves.browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
            assert widths[0] <= widths[1] == width, state
            shelves.browser.execute_script(AXE.read_text(encoding="utf-8"))
            found = shelves.browser.execute_async_script("axe.run().then(arguments[0])")
            assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == [], state
            edges = shelves.browser.execute_script(CONTRAST)
            assert [(name, ratio) for name, ratio in edges if ratio < 3] == [], state
    finally:
        run("Emulation.clearDeviceMetricsOverride", {})
        run("Emulation.setEmulatedMedia", {"features": []})


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

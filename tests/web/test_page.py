"""The page in a real browser: every view, its empty and error states, by mouse and by keyboard."""

import contextlib
import os
import re
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from sonde.features.store import load_index
from sonde.web import app as app_module
from sonde.web.app import make_app
from sonde.web.serve import listen

STATIC = Path(app_module.__file__).parent / "static" / "index.html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
MISSING = (
    "the page is not built (make page)" if not STATIC.exists() else "" if CHROMIUM else "Chromium is not installed"
)

pytestmark = pytest.mark.page


@pytest.fixture(scope="module")
def address(walk):
    with served(walk.index) as address:
        yield address


@contextlib.contextmanager
def served(index: Path):
    if MISSING:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{MISSING}, and CI must test the page")
        pytest.skip(MISSING)
    import uvicorn

    listener = listen(0)
    server = uvicorn.Server(uvicorn.Config(make_app(load_index(index), "cpu"), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture(scope="module")
def browser(address):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        expect.set_options(timeout=20_000)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A page that fails its test where the console shows an error or a request leaves the machine."""
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: (
            faults.append(request.url) if not request.url.startswith(("http://127.0.0.1:", "data:")) else None
        ),
    )
    page.on(
        "console",
        lambda message: (
            faults.append(message.text) if message.type == "error" and "status of 4" not in message.text else None
        ),
    )
    page.set_default_timeout(20_000)
    yield page
    page.close()
    assert faults == []


def test_features_are_listed_searched_and_opened(page, address):
    page.goto(address)
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Show 14 more").click()
    expect(page.locator("tbody tr")).to_have_count(64)
    page.get_by_placeholder("Words of a label").fill("bridge")
    page.get_by_text("found, best first").wait_for()
    expect(page).to_have_url(re.compile("q=bridge"))
    page.reload()
    page.get_by_text("found, best first").wait_for()
    page.locator("tbody tr a").first.click()
    page.get_by_role("heading", name="Feature").wait_for()
    expect(page.locator("ol li .fires")).not_to_have_count(0)


def test_a_search_that_finds_nothing_says_what_to_try(page, address):
    page.goto(address + "#/features?q=zzzz")
    page.get_by_text("No label, note or example holds").wait_for()


def test_a_feature_that_does_not_exist(page, address):
    page.goto(address + "#/feature/9999")
    page.get_by_role("alert").get_by_text("features 0 to 63").wait_for()
    page.goto(address + "#/nonsense")
    page.get_by_text("There is no such page").wait_for()


def test_a_text_is_read_and_features_shown_on_it(page, address):
    page.goto(address + "#/read")
    page.get_by_label("Text", exact=True).fill("Anna goes to town and sees the bridge.")
    expect(page.locator("tbody tr")).not_to_have_count(0)
    expect(page.locator(".trace .fires")).not_to_have_count(0)
    expect(page.locator(".trace")).to_have_text("Anna goes to town and sees the bridge.")
    expect(page).to_have_url(re.compile("text=Anna"))
    second = page.locator("tbody tr").nth(1)
    number = second.locator("a").inner_text()
    second.get_by_role("button").click()
    page.get_by_role("heading", name=f"Feature {number} on the text").wait_for()
    page.reload()
    expect(page.get_by_label("Text", exact=True)).to_have_value("Anna goes to town and sees the bridge.")
    page.get_by_label("Unlike").fill("Anna goes to town and sees the bridge.")
    page.get_by_text("No feature fires there more than on the text").wait_for()


def test_examples_of_every_strength_and_neighbours(page, address, walk):
    number = int(load_index(walk.index).statistics["density"].argmax())
    page.goto(f"{address}#/feature/{number}")
    expect(page.locator(".histogram span")).to_have_count(20)
    strongest = page.locator("ol li .value").all_inner_texts()
    page.get_by_label("Examples").select_option("interval")
    expect(page.locator("ol li .value").last).not_to_have_text(strongest[-1])
    page.locator(".neighbours a").first.click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text(f"Feature {number}")


def test_a_label_and_a_note_are_given_and_found(page, walk, tmp_path):
    index = load_index(shutil.copytree(walk.index, tmp_path / "labelled"))
    number = int(index.statistics["density"].argmax())
    with served(index.folder) as own:
        page.goto(f"{own}#/feature/{number}")
        page.get_by_role("button", name="Give it a label").click()
        page.get_by_label("What it stands for", exact=True).fill("towns and <b>bridges</b>")
        page.keyboard.press("Enter")
        page.get_by_text("towns and <b>bridges</b>").wait_for()
        page.get_by_role("button", name="Say it better").click()
        page.get_by_label("What it stands for", exact=True).fill("towns")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("1 earlier").wait_for()
        page.get_by_role("button", name="Add a note").click()
        page.get_by_label("A note").fill("as in Königsberg")
        page.keyboard.press("Enter")
        page.get_by_text("as in Königsberg").wait_for()
        page.reload()
        page.get_by_text("as in Königsberg").wait_for()
        page.goto(f"{own}#/features?q=königsberg")
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody .label")).to_have_text("towns")
        page.goto("about:blank")  # and asks nothing of a server that has ended
    assert [said.label for said in index.labels.history(number)] == ["towns and <b>bridges</b>", "towns"]


def test_a_chat_with_and_without_a_feature(page, address, walk):
    number = int(load_index(walk.index).statistics["maximum"].argmax())
    page.goto(f"{address}#/feature/{number}")
    page.get_by_role("link", name="Turn it in a chat").click()
    slider = page.get_by_role("slider")
    slider.fill("5")
    expect(page.locator("output")).to_have_text("5 × max")
    expect(page).to_have_url(re.compile("5max"))
    page.get_by_placeholder("Ask something").fill("who?")
    page.keyboard.press("Enter")
    answers = page.locator(".answer")
    expect(answers).to_have_count(2)
    expect(page.get_by_role("button", name="Ask")).to_be_visible()  # it is "..." until both answers are whole
    plain, edited = page.locator(".answer").all_inner_texts()
    assert plain != edited and f"{number} at 5 × max" in edited
    page.reload()
    expect(page.get_by_role("slider")).to_have_value("5")


def test_a_preset_is_kept_and_turned(page, walk, tmp_path):
    index = load_index(shutil.copytree(walk.index, tmp_path / "presets"))
    with served(index.folder) as own:
        page.goto(own + "#/chat?edit=feature%3A3%3D2max&edit=feature%3A5%3D1max")
        page.get_by_placeholder("name of a preset").fill("My Preset!")
        page.get_by_role("button", name="Keep these").click()
        page.get_by_role("button", name="my-preset").wait_for()
        page.goto(own + "#/chat")
        page.reload()
        page.get_by_text("No feature is turned yet").wait_for()
        page.get_by_role("button", name="my-preset").click()
        expect(page.get_by_role("slider")).to_have_count(2)
        page.goto("about:blank")


def test_features_are_turned_by_number_and_back(page, address):
    page.goto(address + "#/chat")
    page.get_by_text("No feature is turned yet").wait_for()
    field = page.get_by_placeholder("feature number")
    for wrong in ("64", "x", "-1", ""):
        field.fill(wrong)
        page.get_by_role("button", name="Turn a feature").click()
        page.get_by_role("alert").get_by_text("from 0 to 63").wait_for()
    field.fill("7")
    page.get_by_role("button", name="Turn a feature").click()
    page.get_by_role("slider").wait_for()
    expect(page).to_have_url(re.compile("edit=feature%3A7%3D1max"))
    page.get_by_role("button", name="turn feature 7 back").click()
    page.get_by_text("No feature is turned yet").wait_for()


def test_the_page_works_from_the_keyboard(page, address):
    page.goto(address)
    page.wait_for_selector("tbody tr")
    labels = []
    for _ in range(7):
        page.keyboard.press("Tab")
        labels.append(
            page.evaluate(
                "document.activeElement.tagName + ' ' + (document.activeElement.textContent || document.activeElement.placeholder).slice(0, 12)"
            )
        )
    assert labels[:5] == ["A sonde", "A Features", "A Read a text", "A Chat", "INPUT Words of a l"]
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Feature").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_no_view_overflows_and_text_can_be_read(browser, address, scheme, width):
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    for place, wait in (
        ("", "tbody tr"),
        ("#/feature/3", "h1"),
        ("#/read?text=Anna+sees+it", "tbody tr"),
        ("#/chat?edit=feature:3=2max", "input[type=range]"),
    ):
        page.goto(address + place)
        page.wait_for_selector(wait)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ink, ground = page.evaluate(
            "[getComputedStyle(document.documentElement).color, getComputedStyle(document.documentElement).backgroundColor]"
        )
        assert contrast(ink, ground) > 7
    page.close()


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two rgb() colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        channels = [int(c) / 255 for c in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_a_search_that_is_overtaken_while_its_answer_arrives_shows_no_error(page, address):
    """Typing gives up the request before; one that is given up while its body is read must not count as an answer."""
    page.goto(address)
    expect(page.locator("tbody tr")).to_have_count(50)
    field = page.get_by_placeholder("Words of a label")
    for _ in range(3):
        for text in ("b", "br", "bri", "zzzz", "", "bridge"):
            field.fill(text)
            page.wait_for_timeout(155)
    expect(page.get_by_text("found, best first")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_picture_is_shown_with_the_patches_where_the_feature_fires(pictures, browser):
    index = load_index(pictures.index)
    feature = next(f for f in index.features for e in f.examples(1) if e.pieces[e.peak][0] == "<image>")
    row, column, value = feature.examples(1)[0].pictures[0].strongest()[0]
    with served(pictures.index) as address:
        page = browser.new_page()
        page.goto(f"{address}#/feature/{feature.number}")
        image = page.locator("ol").get_by_role("img").first
        expect(image).to_have_attribute("alt", re.compile(f"row {row + 1}, column {column + 1}: {value:.2f}"))
        expect(image).to_have_js_property("naturalWidth", 16)
        expect(page.locator(".patches").first.locator("span")).to_have_count(16)
        page.close()

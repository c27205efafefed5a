"""The page in a real browser: every view, its empty and error states, by mouse and by keyboard."""

import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from sonde.analysis.neurons import neurons
from sonde.analysis.splitting import splitting
from sonde.features.index import load_index
from sonde.features.reader import Reader
from sonde.steering.edits import Edit
from sonde.steering.presets import load_presets, save_preset
from sonde.web.export import export
from sonde.web.page import is_built
from tests.web.serving import served
from tests.web.test_api import place_by_hand

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
MISSING = "the page is not built (make page)" if not is_built() else "" if CHROMIUM else "Chromium is not installed"

pytestmark = pytest.mark.page


@pytest.fixture(scope="module", autouse=True)
def built():
    if MISSING:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{MISSING}, and CI must test the page")
        pytest.skip(MISSING)


@pytest.fixture(scope="module")
def address(built, walk, tmp_path_factory):
    """The index of the walk with a map, neurons, a few labels and a preset."""
    index = load_index(shutil.copytree(walk.index, tmp_path_factory.mktemp("page") / "index"))
    place_by_hand(index)
    neurons(Reader(index, device="cpu"), tokens=2000)
    index.labels.add(5, "a label of its own")
    save_preset(index.folder, "strong", [Edit("clamp", strongest(index), 3.0, "max")])
    with served(index.folder) as address:
        yield address


def strongest(index) -> int:
    return int(index.statistics["maximum"].argmax())


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
            faults.append(request.url)
            if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:///"))
            else None
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


def test_the_start_says_what_this_is_and_leads_on(page, address):
    page.goto(address)
    page.get_by_role("heading", name="taken apart").wait_for()
    for figure in ("Variance explained", "Features on a token", "Dead features"):
        expect(page.locator("dl dt", has_text=figure)).to_be_visible()
    expect(page.get_by_role("img", name="features by the share")).to_be_visible()
    expect(page.locator(".featured li a")).not_to_have_count(0)
    page.get_by_placeholder("Find a feature").fill("bridge")
    page.keyboard.press("Enter")
    page.get_by_text("found, best first").wait_for()
    expect(page.get_by_placeholder("Words of a label")).to_have_value("bridge")


def test_features_are_listed_searched_and_opened(page, address):
    page.goto(address + "#/features")
    table = page.get_by_role("table", name="features")
    expect(table).to_have_attribute("aria-rowcount", "64")
    table.evaluate("node => node.scrollTo(0, node.scrollHeight)")
    expect(table.get_by_role("link", name="63", exact=True)).to_be_visible()
    expect(table.get_by_role("link", name="0", exact=True)).to_have_count(0)  # rows out of view are not there
    page.get_by_placeholder("Words of a label").fill("bridge")
    page.get_by_text("found, best first").wait_for()
    expect(page).to_have_url(re.compile("q=bridge"))
    page.reload()
    page.get_by_text("found, best first").wait_for()
    table.get_by_role("link").first.click()
    page.get_by_role("heading", name="Feature").wait_for()
    expect(page.locator("ol li .fires")).not_to_have_count(0)


def test_features_are_ordered_and_bounded(page, address, walk):
    index = load_index(walk.index)
    page.goto(address + "#/features")
    first = page.locator('[role="row"]').first.get_by_role("link")
    page.get_by_role("button", name="Max", exact=True).click()
    expect(first).to_have_text(str(strongest(index)))
    expect(page).to_have_url(re.compile("sort=maximum&descending=true"))
    page.get_by_role("button", name=re.compile("^Max")).click()
    expect(first).not_to_have_text(str(strongest(index)))
    page.get_by_text("Bounds on density").click()
    bound = float(sorted(index.statistics["maximum"])[-3])
    page.get_by_label("Max largest activation").fill(f"{bound:.6f}..")
    expect(page.get_by_text("features", exact=True)).to_have_count(0)
    expect(page.locator(".count")).to_have_text(re.compile("^[23] features"))
    page.get_by_label("Max largest activation").fill("nonsense")
    expect(page.get_by_label("Max largest activation")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Max largest activation").fill("1e9..")
    page.get_by_text("No feature lies within these bounds").wait_for()


def test_features_are_found_by_a_text_and_by_likeness(page, address, walk):
    page.goto(address + "#/features")
    page.get_by_label("search by").select_option("text")
    page.get_by_placeholder("A sentence").fill("Anna goes to town")
    page.get_by_text("found, best first").wait_for()
    best = Reader(walk.index, device="cpu").search("Anna goes to town", n=1)[0].feature.number
    expect(page.locator('[role="row"]').first.get_by_role("link")).to_have_text(str(best))
    page.get_by_label("search by").select_option("like")
    page.get_by_placeholder("The number of a feature").fill("seven")
    page.get_by_role("alert").get_by_text("not the number of a feature").wait_for()
    page.get_by_placeholder("The number of a feature").fill("7")
    expect(page.locator('[role="row"]').first.get_by_role("link")).to_have_text("7")


def test_a_search_that_finds_nothing_says_what_to_try(page, address):
    page.goto(address + "#/features?q=zzzz")
    page.get_by_text("No label, note or example contains").wait_for()


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
    page.locator(".trace .token").first.click()
    expect(page.locator(".token-line a")).not_to_have_count(0)
    expect(page.locator(".trace")).to_have_text("Anna goes to town and sees the bridge.")
    expect(page).to_have_url(re.compile("text=Anna"))
    second = page.locator("tbody tr").nth(1)
    number = second.locator("a").inner_text()
    second.get_by_role("button").click()
    page.get_by_text(f"Feature {number} on the text").wait_for()
    page.reload()
    expect(page.get_by_label("Text", exact=True)).to_have_value("Anna goes to town and sees the bridge.")
    page.get_by_label("Compare with").fill("Anna goes to town and sees the bridge.")
    page.get_by_text("No feature fires on the text more than on the other").wait_for()
    page.get_by_label("Compare with").fill("the red bridge")
    page.get_by_role("heading", name="More on the other than on the text").wait_for()
    expect(page.locator(".trace")).to_have_count(2)


def test_breaks_of_lines_and_spaces_can_be_seen_and_chosen(page, address):
    page.goto(address + "#/read?text=the%20red%0A%20%20%20bridge")
    trace = page.locator(".trace")
    expect(trace).to_contain_text("\u21b5")
    heights = {round(token.bounding_box()["height"]) for token in trace.locator(".token").all()}
    widths = [token.bounding_box()["width"] for token in trace.locator(".token").all()]
    assert len(heights) == 1 and min(widths) > 1  # a break inside a button would make it two lines high
    assert trace.bounding_box()["height"] > 2 * heights.pop()  # the line is broken after the mark
    trace.locator(".token", has_text="\u21b5").click()
    expect(page.locator(".token-line a")).not_to_have_count(0)


def test_examples_of_every_strength_and_neighbours(page, address, walk):
    number = int(load_index(walk.index).statistics["density"].argmax())
    page.goto(f"{address}#/feature/{number}")
    expect(page.get_by_role("img", name="activations from 0").locator("rect")).to_have_count(20)
    page.get_by_text("Most like neuron").wait_for()
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
        page.get_by_role("button", name="Change the label").click()
        page.get_by_label("What it stands for", exact=True).fill("towns")
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_text("1 earlier").wait_for()
        page.get_by_role("button", name="Add a note").click()
        page.get_by_label("A note").fill("as in Königsberg")
        page.keyboard.press("Enter")
        page.get_by_text("as in Königsberg").wait_for()
        page.reload()
        page.get_by_text("as in Königsberg").wait_for()
        page.goto(f"{own}#/features?q=königsberg")
        expect(page.locator('[role="row"]')).to_have_count(1)
        expect(page.locator('[role="row"] .label')).to_have_text("towns")
        page.goto("about:blank")  # and asks nothing of a server that has ended
    assert [said.label for said in index.labels.history(number)] == ["towns and <b>bridges</b>", "towns"]


def test_a_chat_with_and_without_a_feature(page, address, walk):
    number = int(load_index(walk.index).statistics["maximum"].argmax())
    page.goto(f"{address}#/feature/{number}")
    dose = page.get_by_role("slider")
    dose.fill("4")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer.edited")).to_contain_text(f"{number} at 4 × max in the prompt")
    dose.evaluate("node => { node.value = '3'; node.dispatchEvent(new Event('input')); }")  # moved, and not yet let go
    expect(page.get_by_text("3.0 × max")).to_be_visible()
    expect(page.locator(".answer.edited")).to_contain_text(f"{number} at 4 × max in the prompt")
    dose.fill("4")
    page.get_by_role("link", name="Try it in a chat").click()
    slider = page.get_by_role("slider")
    expect(slider).to_have_value("4")
    slider.fill("5")
    expect(page.locator("output")).to_have_text("5 × max")
    expect(page).to_have_url(re.compile("5max"))
    page.get_by_placeholder("Ask something").fill("who?")
    page.keyboard.press("Enter")
    answers = page.locator(".answer")
    expect(answers).to_have_count(2)
    expect(page.get_by_role("button", name="Ask")).to_be_visible()  # it is "..." until both answers are whole
    plain, edited = page.locator(".answer").all_inner_texts()
    assert plain != edited and f"{number} at 5 × max in the prompt" in edited
    page.reload()
    expect(page.get_by_role("slider")).to_have_value("5")


def test_edits_of_every_kind_and_place(page, address):
    page.goto(address + "#/chat?edit=feature%3A3%3D2max")
    what = page.get_by_label("what is done to feature 3")
    for op, address_part in (("add", "3%2B%3D2max"), ("scale", "3*%3D2"), ("ablate", "3%3D0"), ("clamp", "3%3D1max")):
        what.select_option(op)
        expect(page).to_have_url(re.compile(re.escape(address_part) + "$"))
    page.get_by_label("where feature 3 is edited").select_option("answer")
    expect(page).to_have_url(re.compile("1max%40answer"))
    page.get_by_placeholder("Ask something").fill("who?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    expect(page.locator(".answer.edited")).to_contain_text("3 at 1 × max in the answer")


def test_a_set_of_features_is_named_one_by_one(page, address, walk):
    first, second = load_index(walk.index).statistics["maximum"].argsort()[-2:].tolist()
    page.goto(f"{address}#/chat?edit=features%3A{first},{second}%3D1max%40prompt")
    expect(page.locator(".edit > span").first).to_have_text("2 features")
    for number in (first, second):
        line = page.locator(".edit .shown", has=page.get_by_role("link", name=str(number), exact=True))
        expect(line.locator(".peak")).to_have_count(1)


def test_dose_and_response(page, address, walk):
    number = strongest(load_index(walk.index))
    page.goto(f"{address}#/chat")
    page.get_by_text("Dose and response: one question").click()
    expect(page.get_by_role("button", name="Ask at every dose")).to_be_disabled()
    page.goto(f"{address}#/chat?edit=feature%3A{number}%3D3max")
    page.reload()
    page.get_by_text("Dose and response: one question").click()
    page.get_by_role("button", name="Ask at every dose").click()
    expect(page.locator(".doses tbody tr")).to_have_count(9)
    expect(page.locator(".doses tbody tr").nth(4).locator("td").first).to_have_text("3 × max")
    curves = page.locator(".doses polyline")
    expect(curves).to_have_count(2)
    above, below = (curve.bounding_box() for curve in curves.all())  # each in a panel with its own axis
    assert above["y"] + above["height"] < below["y"]
    page.set_viewport_size({"width": 390, "height": 844})  # where the answers are below their figures
    answer = page.locator(".doses td.answer").first.bounding_box()
    assert answer["x"] >= 0 and answer["x"] + answer["width"] <= 390 and answer["width"] > 250


def test_a_text_is_tried_on_a_feature(page, address, walk):
    text = "Anna goes to town and sees the bridge."
    fired = Reader(walk.index, device="cpu").read(text)
    number = int(fired.feature[fired.value.argmax()])
    page.goto(f"{address}#/feature/{number}")
    page.get_by_label("Try a text").fill(text)
    expect(page.locator(".shown .fires")).not_to_have_count(0)
    beyond = fired.value.max() > load_index(walk.index).feature(number).maximum * 1.001
    expect(page.locator(".shown")).to_contain_text("beyond the maximum" if beyond else "of the maximum")
    page.get_by_label("Try a text").fill("?")
    expect(page.locator(".shown")).to_contain_text(re.compile("does not fire|Up to"))


def test_the_map_is_moved_searched_and_drawn_upon(page, address):
    page.set_viewport_size({"width": 1200, "height": 1000})
    page.goto(address + "#/map")
    plane = page.get_by_role("application")
    expect(page.locator(".name", has_text="even")).to_be_visible()
    box = plane.bounding_box()
    page.get_by_role("button", name="Lasso").click()
    left, right, top, bottom = 12, box["width"] / 2, 12, box["height"] - 12
    page.mouse.move(box["x"] + left, box["y"] + top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=3)
    page.mouse.up()
    page.get_by_role("heading", name="32 chosen").wait_for()
    expect(page.locator("main ul li")).to_have_count(30)
    plane.focus()
    page.keyboard.press("Escape")
    page.get_by_text("Click a point to see").wait_for()
    before = page.locator("canvas").evaluate("node => node.toDataURL()")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(100)
    assert page.locator("canvas").evaluate("node => node.toDataURL()") != before
    page.keyboard.press("0")
    page.get_by_placeholder("Show where features").fill("bridge")
    page.get_by_text(re.compile("^[0-9]+ found")).wait_for()
    expect(page.get_by_label("Colour")).to_have_value("search")
    expect(page).to_have_url(re.compile("map.*q=bridge"))


def test_an_index_without_a_map_says_how_to_make_one(page, walk):
    with served(walk.index) as own:
        page.goto(own + "#/map")
        page.get_by_role("alert").get_by_text("has no map yet").wait_for()
        page.goto("about:blank")


def test_dictionaries_of_two_sizes_lead_to_each_other(page, sizes):
    tree = splitting(load_index(sizes / "small"), load_index(sizes / "large"))
    parent, children = next(iter(tree.children.items()))
    with served(sizes / "small") as own:
        page.goto(own)
        page.get_by_role("link", name="large").click()
        page.get_by_text("96 features of").wait_for()
        page.goto(f"{own}#/feature/{parent}")
        page.get_by_role("heading", name="Splits into, in large").wait_for()
        page.locator(".kin a").first.click()
        page.get_by_role("heading", name=f"Feature {children[0].feature.number}", exact=True).wait_for()
        page.get_by_role("heading", name="Split from, in small").wait_for()
        page.get_by_role("link", name="Features", exact=True).click()  # and stays in the larger
        expect(page.get_by_role("table", name="features")).to_have_attribute("aria-rowcount", "96")
        page.goto("about:blank")


def test_pictures_and_data_are_taken_out_of_plots(page, address, walk):
    index = load_index(walk.index)
    number = strongest(index)
    page.goto(f"{address}#/feature/{number}")
    saved = {}
    for kind in ("SVG", "PNG", "CSV", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"save How strongly it fires as {kind}").click()
        saved[kind] = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename == f"feature-{number}-activations.{kind.lower()}"
    assert saved["PNG"].startswith(b"\x89PNG") and b"<rect" in saved["SVG"] and b"var(" not in saved["SVG"]
    rows = json.loads(saved["JSON"])
    assert [row["activations"] for row in rows] == index.feature(number).histogram()
    assert saved["CSV"].decode().splitlines()[1].split(",")[2] == str(rows[0]["activations"])
    page.goto(address + "#/map")
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("as PNG")).click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_an_exported_page_opens_from_its_folder(page, address, walk, tmp_path):
    index = load_index(shutil.copytree(walk.index, tmp_path / "index"))
    place_by_hand(index)
    index.labels.add(5, "a label of its own")
    opened = export(index, tmp_path / "page").as_uri()
    page.goto(opened)
    page.get_by_role("heading", name="taken apart").wait_for()
    expect(page.get_by_role("link", name="Chat")).to_have_count(0)
    page.goto(opened + "#/features?q=label of its own")
    page.locator('[role="row"]').get_by_role("link", name="5", exact=True).click()
    page.get_by_text("a label of its own").wait_for()
    expect(page.get_by_role("button", name="Change the label")).to_have_count(0)
    page.goto(f"{opened}#/feature/{strongest(index)}")
    expect(page.locator("ol li .fires")).not_to_have_count(0)
    page.goto(opened + "#/map")
    expect(page.locator(".name", has_text="even")).to_be_visible()
    page.goto(opened + "#/chat")
    page.get_by_role("heading", name="Not in an exported page").wait_for()
    page.goto(opened + "#/feature/99")
    page.get_by_role("alert").get_by_text("features 0 to 63").wait_for()


def test_a_preset_is_kept_and_turned(page, walk, tmp_path):
    index = load_index(shutil.copytree(walk.index, tmp_path / "presets"))
    with served(index.folder) as own:
        page.goto(own + "#/chat?edit=feature%3A3%3D2max&edit=feature%3A5%3D1max")
        page.get_by_placeholder("name of a preset").fill("My Preset!")
        page.get_by_role("button", name="Keep these").click()
        page.get_by_role("button", name="my-preset").wait_for()
        page.get_by_role("button", name="remove the edit of feature 5").click()
        page.get_by_placeholder("name of a preset").fill("my preset")
        page.get_by_role("button", name="Keep these").click()
        page.get_by_role("alert").get_by_text("There is a preset my-preset already").wait_for()
        assert len(load_presets(index.folder)["my-preset"]) == 2  # until a person says so
        page.get_by_placeholder("name of a preset").fill("Мост")
        page.get_by_role("button", name="Keep these").click()
        page.get_by_role("button", name="мост").wait_for()
        page.goto(own + "#/chat")
        page.reload()
        page.get_by_text("No feature is edited yet").wait_for()
        page.get_by_role("button", name="my-preset").click()
        expect(page.get_by_role("slider")).to_have_count(2)
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Remove some").click()
        page.get_by_role("button", name="remove the preset my-preset").click()
        expect(page.get_by_role("button", name="my-preset")).to_have_count(0)
        assert set(load_presets(index.folder)) == {"мост"}
        page.goto("about:blank")


def test_features_are_turned_by_number_and_back(page, address):
    page.goto(address + "#/chat")
    page.get_by_text("No feature is edited yet").wait_for()
    field = page.get_by_placeholder("feature number")
    for wrong in ("64", "x", "-1", ""):
        field.fill(wrong)
        page.get_by_role("button", name="Edit a feature").click()
        page.get_by_role("alert").get_by_text("from 0 to 63").wait_for()
    field.fill("7")
    page.get_by_role("button", name="Edit a feature").click()
    page.get_by_role("slider").wait_for()
    expect(page).to_have_url(re.compile("edit=feature%3A7%3D1max%40prompt$"))
    page.get_by_role("button", name="remove the edit of feature 7").click()
    page.get_by_text("No feature is edited yet").wait_for()


def test_the_page_works_from_the_keyboard(page, address):
    page.goto(address + "#/features")
    page.wait_for_selector('[role="row"] a')
    focused = """() => {
        const { tagName, ariaLabel, placeholder, textContent } = document.activeElement;
        return `${tagName} ${(ariaLabel || placeholder || textContent).slice(0, 12)}`;
    }"""
    labels = []
    for _ in range(8):
        page.keyboard.press("Tab")
        labels.append(page.evaluate(focused))
    links = [f"A {name}" for name in ("sonde", "Start", "Features", "Map", "Read", "Chat")]
    assert labels == [*links, "SELECT search by", "INPUT Words of a l"]
    while page.evaluate("document.activeElement.closest('[role=row]') === null"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Feature").wait_for()


VIEWS = {
    "start": ("", "figure"),
    "features": ("#/features?density=0.0001..", '[role="row"] a'),
    "nothing found": ("#/features?q=zzzz", ".empty"),
    "feature": ("#/feature/3", "figure"),
    "map": ("#/map", "canvas"),
    "reading": ("#/read?text=Anna+sees+it&unlike=the+red+bridge", "tbody tr"),
    "chat": ("#/chat?edit=feature:3=2max", "input[type=range]"),
    "an address with a wrong part": ("#/chat?edit=nonsense", ".problem"),
    "no such page": ("#/nowhere", "h1"),
}


@pytest.mark.parametrize("name", VIEWS)
def test_no_view_overflows_and_everybody_can_use_it(browser, address, name):
    """axe finds no serious fault, in either colours, on a phone and on a desk; pictures are kept in SONDE_SHOTS."""
    place, wait = VIEWS[name]
    page = browser.new_page()
    page.goto(address + place)
    page.wait_for_selector(wait)
    page.evaluate((ROOT / "frontend/node_modules/axe-core/axe.min.js").read_text(encoding="utf-8"))
    for scheme, width in itertools.product(("light", "dark"), (390, 1200)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        violations = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        faults = [
            (fault["id"], fault["impact"], fault["nodes"][0]["html"][:200], fault["nodes"][0]["failureSummary"])
            for fault in violations
            if fault["impact"] in ("serious", "critical")
        ]
        assert not faults, (scheme, width, faults)
        if os.environ.get("SONDE_SHOTS"):
            page.screenshot(path=f"{os.environ['SONDE_SHOTS']}/{name.replace(' ', '-')}-{scheme}-{width}.png")
    page.close()


def test_a_search_that_is_overtaken_while_its_answer_arrives_shows_no_error(page, address):
    """Typing gives up the request before; one that is given up while its body is read must not count as an answer."""
    page.goto(address + "#/features")
    page.wait_for_selector('[role="row"] a')
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


def go(page, address: str) -> None:
    """To an address as a person types it: without loading the page again."""
    page.evaluate("address => { location.hash = address; }", address)


def test_an_address_that_changes_within_a_view_reaches_it(page, address):
    page.goto(address + "#/features?q=bridge")
    field = page.get_by_placeholder("Words of a label")
    expect(field).to_have_value("bridge")
    go(page, "#/features?q=zzzz")
    page.get_by_text("No label, note or example contains").wait_for()
    page.go_back()
    expect(field).to_have_value("bridge")
    page.goto(address + "#/read?text=one")
    go(page, "#/read?text=the%20bridge")
    expect(page.get_by_label("Text", exact=True)).to_have_value("the bridge")
    page.goto(address + "#/chat?edit=feature:3=2max")
    go(page, "#/chat?edit=feature:5=3max")
    page.get_by_role("link", name="feature 5").wait_for()
    go(page, "#/map?q=bridge")
    go(page, "#/map?q=town")
    expect(page.get_by_placeholder("Show where features")).to_have_value("town")


def test_parts_of_an_address_that_cannot_be_read_are_named(page, address):
    page.goto(address + "#/chat?edit=nonsense&edit=feature:3=2max")
    page.get_by_role("alert").get_by_text("edit=nonsense").wait_for()
    expect(page.get_by_role("slider")).to_have_count(1)
    go(page, "#/features?density=hello")
    page.get_by_role("alert").get_by_text("density=hello").wait_for()
    go(page, "#/features?density=..0.5")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_answer_that_was_overtaken_is_dropped(page, address, walk):
    """The first of two quick changes is answered after the second."""
    number = int(load_index(walk.index).statistics["density"].argmax())

    def late(route) -> None:
        time.sleep(1)
        route.continue_()

    page.goto(f"{address}#/feature/{number}")
    values = page.locator("ol li .value")
    expect(values).not_to_have_count(0)
    strongest = values.all_inner_texts()
    page.route("**/api/features/*?by=random", late)
    page.get_by_label("Examples").select_option("random")
    page.get_by_label("Examples").select_option("top")
    page.wait_for_timeout(2000)
    assert values.all_inner_texts() == strongest


def test_an_older_reading_never_stands_under_a_newer_text(browser, address):
    page = browser.new_page()
    page.goto(address + "#/read?text=Anna+goes+to+town")
    trace = page.locator(".trace")
    expect(trace).to_have_text("Anna goes to town")
    held = []
    page.route("**/api/read", lambda route: held.append(route))
    page.get_by_label("Text", exact=True).fill("the red bridge")
    page.get_by_text("Reading the text as it is now").wait_for()
    page.wait_for_timeout(500)
    held.pop().fulfill(status=500, json={"error": "out of memory"})
    page.get_by_role("alert").get_by_text("out of memory").wait_for()
    expect(trace).to_have_count(0)
    page.unroute("**/api/read")
    page.get_by_role("button", name="Try again").click()
    expect(trace).to_have_text("the red bridge")
    page.close()


def test_what_was_done_is_there_on_the_way_back_and_after_a_reload(page, address):
    page.set_viewport_size({"width": 1000, "height": 500})
    page.goto(address + "#/chat?edit=feature:3=2max")
    page.get_by_placeholder("Ask something").fill("who?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Start again")).to_be_visible()
    answers = page.locator(".answer").all_inner_texts()
    page.get_by_placeholder("Ask something").fill("half a quest")
    page.get_by_role("link", name="feature 3").click()
    page.get_by_role("heading", name="Feature 3").wait_for()
    examples = page.get_by_role("heading", name="Where it fires")
    examples.scroll_into_view_if_needed()
    scrolled = page.evaluate("scrollY")
    assert scrolled > 100
    page.go_back()
    expect(page.locator(".answer")).to_have_count(2)
    assert page.evaluate("scrollY") < scrolled
    page.go_forward()
    for _ in range(50):  # wait_for_function makes code in the page, which its policy forbids
        page.wait_for_timeout(100)
        if abs(page.evaluate("scrollY") - scrolled) < 3:
            break
    assert abs(page.evaluate("scrollY") - scrolled) < 3
    page.get_by_role("link", name="Chat", exact=True).click()  # to the edits that were there
    for _ in range(2):
        expect(page.get_by_role("slider")).to_have_count(1)
        expect(page.locator(".answer")).to_have_count(2)
        assert page.locator(".answer").all_inner_texts() == answers
        expect(page.get_by_placeholder("Ask something")).to_have_value("half a quest")
        page.reload()


def test_a_search_and_a_reading_are_kept_while_another_view_is_shown(page, address):
    page.goto(address + "#/features?sort=maximum")
    table = page.get_by_role("table", name="features")
    expect(table.get_by_role("link")).not_to_have_count(0)
    table.evaluate("node => node.scrollTo(0, 1500)")
    link = table.get_by_role("link").nth(3)
    number = link.inner_text()
    link.click()
    page.get_by_role("heading", name=f"Feature {number}", exact=True).wait_for()
    page.go_back()
    expect(table.get_by_role("link", name=number, exact=True)).to_be_visible()
    assert table.evaluate("node => node.scrollTop") == 1500
    page.get_by_role("link", name="Read", exact=True).click()
    page.get_by_label("Text", exact=True).fill("the red bridge")
    expect(page.locator(".trace")).to_have_text("the red bridge")
    page.get_by_role("link", name="Features", exact=True).click()
    expect(page).to_have_url(re.compile("sort=maximum"))
    page.get_by_role("link", name="Read", exact=True).click()
    expect(page.locator(".trace")).to_have_text("the red bridge")


def test_a_call_that_fails_takes_nothing_away_and_is_made_again(browser, address, walk):
    number = int(load_index(walk.index).statistics["density"].argmax())
    page = browser.new_page()
    page.route("**/api/index", lambda route: route.abort())
    page.goto(f"{address}#/feature/{number}")
    page.get_by_role("alert").get_by_text("The server does not answer").wait_for()
    page.unroute("**/api/index")
    expect(page.locator("ol li")).not_to_have_count(0)  # by itself
    page.route("**/api/features/*?by=random", lambda route: route.abort())
    page.get_by_label("Examples").select_option("random")
    page.get_by_role("alert").wait_for()
    expect(page.get_by_role("heading", name="Where it fires")).to_be_visible()
    page.unroute("**/api/features/*?by=random")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.route("**/api/map/points", lambda route: route.abort())
    go(page, "#/map")
    page.get_by_role("alert").get_by_text("The server does not answer").wait_for()
    expect(page.get_by_text("pip install")).to_have_count(0)
    page.close()


def test_a_running_answer_is_stopped(page, address):
    page.route("**/v1/chat/completions", lambda route: None)  # never answered
    page.goto(address + "#/chat?edit=feature:3=2max")
    page.get_by_placeholder("Ask something").fill("who?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".answer").first).to_have_text("(stopped)")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    go(page, "#/feature/3")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".answer").first).to_contain_text("(stopped)")


def test_rows_open_wherever_they_are_clicked(page, address):
    page.goto(address + "#/features")
    row = page.locator('[role="row"]').nth(2)
    number = row.get_by_role("link").inner_text()
    row.locator(".what").click()
    page.get_by_role("heading", name=f"Feature {number}", exact=True).wait_for()
    page.goto(address + "#/read?text=Anna+goes+to+town+and+sees+the+bridge")
    second = page.locator("tbody tr").nth(1)
    number = second.locator("a").inner_text()
    second.locator(".said").click()
    page.get_by_text(f"Feature {number} on the text").wait_for()


def test_a_point_of_the_map_is_tapped_and_named(browser, address):
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address + "#/map")
    plane = page.get_by_role("application")
    expect(page.locator(".name", has_text="even")).to_be_visible()
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2 + 15, box["y"] + box["height"] / 2)  # near a point, as fingers are
    page.get_by_role("heading", name="Chosen").wait_for()
    expect(page.locator("main ul li")).to_have_count(1)
    expect(page.locator(".name.hover")).to_contain_text(re.compile("feature [0-9]+: ."))
    context.close()

"""What an index, its features, hits and texts show of themselves: one line each, and HTML that stands alone."""

import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import sonde
from sonde.dictionaries.topk import TopK
from sonde.display import to_html, to_text
from sonde.features.feature import Hits
from sonde.features.index import WORTH_SEEING, load_index
from sonde.steering.dose import Response, Responses
from tests.tiny import texts

NASTY = "<script>alert('x')</script> & \"bridges\" http over <b>water"


@pytest.fixture(scope="module")
def index(walk, tmp_path_factory):
    """An index whose text and labels are HTML."""
    out = tmp_path_factory.mktemp("nasty") / "index"
    index = sonde.index(None, walk.topk, [f"{text} {NASTY}" for text in texts(30)], out=out, device="cpu")
    for number in range(index.n_features):
        if number % 2:
            index.labels.add(number, f'<script>{number}</script> & "towns" {"of " * 60}')
    return index


@pytest.fixture(scope="module")
def reader(index):
    return sonde.Reader(index, device="cpu")


@pytest.fixture(scope="module")
def things(walk, index, reader):
    firing = [feature for feature in index.features if not feature.is_dead]
    fired = reader.read(f"the red bridge\n{NASTY}")
    return {
        "index": index,
        "table": index.features,
        "labelled": next(feature for feature in firing if feature.label),
        "unlabelled": next(feature for feature in firing if not feature.label),
        "examples": firing[0].examples(3),
        "example": firing[0].examples(1)[0],
        "by words": index.search("bridge"),
        "nothing": index.search("nowhere-to-be-seen"),
        "by direction": index.nearest(index.directions[3], 5),
        "neighbours": firing[0].neighbours(5),
        "fires with": firing[0].fires_with(5),
        "by text": reader.search(fired, n=5),
        "hit": index.search("towns")[0],
        "fired": fired,
        "model": reader.model,
        "activations": sonde.load_activations(walk.acts),
        "doses": sonde.Session(index, reader.model).dose("who?", [f"feature:{firing[0].number}=1max"], (1, 2), 5),
        "dictionary": sonde.load_dictionary(walk.topk, "cpu"),
        "new dictionary": TopK(16, 8, k=2),
    }


class Page(HTMLParser):
    """Checks that tags are closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text, self.tags = [], "", set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open += [] if tag in ("img", "meta") else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def check(html: str) -> Page:
    page = Page()
    page.feed(html)
    assert not page.open and not page.tags & {"script", "b", "link", "style", "iframe"}
    assert "src=" not in html.replace('src="data:image/webp;base64,', "") and "url(" not in html and "href" not in html
    return page


def test_a_repr_is_one_short_line(things):
    for name, thing in things.items():
        assert "\n" not in repr(thing) and len(repr(thing)) < 260, (name, repr(thing))
    assert repr(things["index"]).startswith("Index(64 features at layers.1.residual of model, ")
    feature = things["unlabelled"]
    assert repr(feature).startswith(f"Feature({feature.number}: fires on {feature.density:.2%} of tokens, max ")
    assert '"<script>' in repr(things["labelled"])
    assert repr(replace(feature, density=0.0)) == f"Feature({feature.number}: fires nowhere)"
    assert (
        repr(things["neighbours"]).startswith("Hits(5 by cosine: ") and repr(things["nothing"]) == "Hits(0 by words: )"
    )
    store, rows = things["activations"], f"{things['activations'].n_rows:,}"
    assert repr(store) == f"Activations({rows} rows of layers.1.residual of model, 32 wide, bfloat16)"
    assert repr(store.at("layers.1.residual")) == repr(store)
    assert repr(things["doses"]) == "Responses(3 doses: as it is, 1, 2)"
    assert repr(things["dictionary"]).startswith("TopK(n_features=64, d_in=32, k=4, site='layers.1.residual', fvu=0.")
    assert repr(things["model"]).endswith("model: llama, 3 layers, 32 wide, cpu float32)")


def test_html_stands_alone_and_escapes_what_it_shows(things):
    for thing in things.values():
        check(thing._repr_html_())
    examples = (example for feature in things["index"].features for example in feature.examples(3))
    assert "<script>alert" in check(next(e for e in examples if "<script>alert" in e.text)._repr_html_()).text
    card = check(things["labelled"]._repr_html_())
    assert "svg" in card.tags and "<script>" in card.text and "more likely" in card.text
    assert "fires nowhere" in check(replace(things["labelled"], density=0.0)._repr_html_()).text


def test_the_text_form_says_the_same(things, capsys):
    for thing in things.values():
        assert to_text(thing.draw()) or thing is things["nothing"]
    assert "of the variance explained" in to_text(things["dictionary"].draw())
    sonde.show(things["labelled"], n=2, by="interval")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"feature {things['labelled'].number}: <script>") and "activations lie below" in lines[2]
    assert len(lines) == len(to_text(things["labelled"].draw(0)).splitlines()) + 2


def test_a_text_is_shaded_by_one_feature_or_by_the_strongest(reader, index):
    fired = reader.read("the red bridge stands by the bay")
    dense = np.stack([fired.of(number) for number in range(index.n_features)], axis=1)
    maximum = index.statistics["maximum"]
    share = np.where(maximum > 0, dense / np.maximum(maximum, 1e-30), 0)
    for token, features in enumerate(fired.strongest(2)):
        best = [number for number in np.argsort(-share[token], kind="stable")[:2] if share[token, number] > 0]
        assert [number for number, _ in features] == best
        assert [value for _, value in features] == pytest.approx(share[token, best], rel=1e-6)
    (text, *_) = fired.draw()
    assert [value for _, value in text.pieces] == pytest.approx(share.max(axis=1), rel=1e-6)
    number = int(dense.max(axis=0).argmax())
    (_, one) = fired.draw(feature=number)
    assert [value for _, value in one.pieces] == pytest.approx(dense[:, number])
    assert one.peak == dense[:, number].argmax() and "".join(piece for piece, _ in one.pieces) == "".join(fired.pieces)
    assert one.maximum >= max(maximum[number], dense[:, number].max())


def test_pictures_are_drawn_with_their_patches(pictures):
    index = load_index(pictures.index)
    feature = next(f for f in index.features for e in f.examples(1) if e.pieces[e.peak][0] == "<image>")
    html = feature._repr_html_()
    assert {"img", "svg"} <= check(html).tags and html.count("data:image/webp;base64,") >= 1
    (picture,) = feature.examples(1)[0].pictures[:1]
    drawn = to_html([feature.examples(1)[0].shaded(feature.maximum, index.text)])
    assert drawn.count("<rect") == sum(value > 0 for each in feature.examples(1)[0].pictures for value in each.values)
    assert picture.describe() in to_text(feature.draw(1))


def test_one_type_of_hit(things, reader):
    names = ("by words", "nothing", "by direction", "neighbours", "fires with", "by text")
    found = [things[name] for name in names]
    session = sonde.Session(reader.index, reader.model)
    _, read = session.read("the red bridge", n=3)
    for hits in [*found, read]:
        assert isinstance(hits, Hits) and all(isinstance(hit.score, float) and hit.feature.count for hit in hits)
    assert [hits.by for hits in found] == ["words", "words", "cosine", "cosine", "cosine of firing", "activation"]
    scores = [hit.score for hit in things["by words"] if "<script>" not in hit.snippet]
    assert scores == sorted(scores, reverse=True)


def test_what_is_worth_a_first_look(walk):
    """Against a plain reference: those that fire most strongly, of words, no two at a token in common."""
    index = load_index(walk.index)
    numbers = index.numbers_where(WORTH_SEEING)
    numbers = numbers if len(numbers) >= 6 else np.flatnonzero(index.statistics["count"] > 0)
    chosen = [7]
    for number in sorted(numbers.tolist(), key=lambda number: -index.statistics["maximum"][number])[:200]:
        tokens = index.feature(number).usual_tokens()
        alike = any(set(tokens) & set(index.feature(other).usual_tokens()) for other in chosen)
        if len(chosen) < 6 and number not in chosen and all(len(token) > 2 for token in tokens) and not alike:
            chosen.append(number)
    assert index.featured(6, [7]) == chosen


def test_drawing_an_index_needs_no_torch(walk):
    code = (
        "import sys, sonde; from sonde.features.index import load_index; index = load_index(sys.argv[1]); "
        "sonde.show(index); sonde.show(index.feature(3)); "
        "index.search('bridge')._repr_html_(); sonde.show(sys.argv[1]); "
        "print('torch' in sys.modules, 'rich' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(walk.index)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "feature 3" in out and out.splitlines()[-1] == "False False"


def test_an_answer_is_a_string_that_knows_its_edits(reader, index):
    session = sonde.Session(index, reader.model)
    plain, edited = session.answer("who?", max_new_tokens=5), session.answer("who?", ["feature:3=2max"], 5)
    assert plain == str(plain) and plain + "!" == f"{plain}!" and json.loads(json.dumps(plain)) == plain
    assert plain.edits == () and edited.edits == ("feature:3=2max",)
    assert "feature:3=2max" in check(edited._repr_html_()).text and repr(edited) == repr(str(edited))
    assert to_text(plain.draw()) == plain
    with reader.model.edited(sonde.Clamp(index, feature=3, value=2, unit="max")):
        assert session.answer("who?", max_new_tokens=5) == edited


def test_a_table_of_doses():
    responses = Responses(
        [Response(None, "I am\n<b>here</b>", 5, 0.0, 1.5, 1 / 3), Response(2.0, "", 0, None, None, None)]
    )
    assert to_text(responses.draw()).splitlines() == [
        "    dose  concept  perplexity  repeated  answer",
        "as it is     0.00         1.5       33%  I am <b>here</b>",
        "       2        -           -         -",
    ]
    check(responses._repr_html_())

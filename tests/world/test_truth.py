"""What is said to be true of each token is what the text says."""

import re
from collections import Counter

import numpy as np
import pytest

from sonde.cli import run
from sonde_world import facts
from sonde_world.facts import LANGUAGES
from sonde_world.generate import documents
from sonde_world.marks import BEGIN, END, NAMED, Span, capitalised, mark, unmarked
from sonde_world.truth import above, token_truth


def test_marks_survive_and_are_taken_out():
    inner = mark("landmark/x", "le pont")
    text, spans = unmarked(mark("language/fr", f"Voici {inner}, et {inner}."))
    assert text == "Voici le pont, et le pont."
    assert spans == (Span(0, 26, "language/fr"), Span(6, 13, "landmark/x"), Span(18, 25, "landmark/x"))
    assert unmarked(capitalised(inner)) == ("Le pont", (Span(0, 7, "landmark/x"),))
    assert capitalised(mark("a", mark("b", "é"))) == mark("a", mark("b", "É")) and mark("a", "") == ""


@pytest.fixture(scope="module")
def made():
    return list(documents(4000, seed=9))


def test_no_mark_is_left_and_every_span_lies_in_its_text(made):
    for document in made:
        assert not re.search(f"[{BEGIN}{NAMED}{END}]", document.text)
        assert Span(0, len(document.text), f"document/{document.kind}") in document.spans
        for span in document.spans:
            assert 0 <= span.start < span.end <= len(document.text), span
            stretch = document.text[span.start : span.end]
            assert (
                span.concept.startswith(("document/", "part/", "speaker/", "scam/", "conduct/", "about/", "code/bug"))
                or stretch == stretch.strip()
            )


def test_names_are_those_of_their_concepts(made):
    """Each name in its language, with a capital or an article that its sentence gave it."""
    tables = {
        kind: {key: noun.names for key, noun in nouns.items()}
        for kind, nouns in facts.NOUNS.items()
        if kind != "colour"
    }
    tables["landmark"] = {key: row.noun.names for key, row in facts.SPEAKERS.items()}
    articles = {
        "the",
        "der",
        "die",
        "das",
        "den",
        "le",
        "la",
        "les",
        "l",
        "du",
        "des",
        "au",
        "aux",
        "el",
        "los",
        "las",
        "del",
        "al",
        "de",
        "d",
        "einen",
        "ein",
    }
    bare = lambda text: [word for word in re.findall(r"\w+", text.lower()) if word not in articles]  # noqa: E731
    seen = Counter()
    for document in made:
        for span in document.spans:
            kind, _, which = span.concept.partition("/")
            if kind in tables:
                stretch = bare(
                    document.text[span.start : span.end].replace("Schiefen", "Schiefe").replace("Goldenen", "Goldene")
                )
                assert stretch in [bare(name) for name in (*tables[kind][which], which)], (span, stretch)
                seen[kind] += 1
    assert set(seen) == set(tables) and min(seen.values()) > 20, seen


def test_every_mention_is_marked(made):
    """A landmark that is named anywhere is marked there."""
    names = {(key, noun) for key, row in facts.LANDMARKS.items() for noun in row.noun.names if " " in noun}
    missed = 0
    for document in made:
        for key, name in names:
            bare = re.sub(r"^(the|der|die|das|le|la|el) ", "", name)
            for found in re.finditer(re.escape(bare), document.text):
                others = [other for other, longer in names if other != key and bare in longer]
                concepts = [f"landmark/{one}" for one in (key, *others)]
                if not any(
                    s.start <= found.start() and found.end() <= s.end and s.concept in concepts for s in document.spans
                ):
                    missed += 1
    assert missed == 0


def test_languages_cover_what_is_said(made):
    for document in made:
        if document.kind in (
            "topic",
            "entry",
            "facts",
            "travel",
            "monologue",
            "feelings",
            "family",
            "letter",
            "review",
            "giving",
            "conflict",
            "scam",
        ):
            covered = np.zeros(len(document.text), dtype=bool)
            for span in document.spans:
                if span.concept.startswith("language/"):
                    covered[span.start : span.end] = True
            left = "".join(letter for letter, known in zip(document.text, covered, strict=True) if not known)
            assert not left.strip(), (document.text, left)
            assert f"language/{document.language}" in {span.concept for span in document.spans}
    assert {code for d in made for s in d.spans if (code := s.concept.removeprefix("language/")) in LANGUAGES} == set(
        LANGUAGES
    )


def test_kinds_stand_above_their_members():
    assert above("landmark/golden_gate") == ("landmark/a bridge", "landmark/*")
    assert above("about/eiffel") == ("about/a tower", "about/*")
    assert above("code/name error") == ("code/error",) and above("code/value") == ()
    assert above("language/de") == () and above("animal/lion") == ("animal/*",)


def test_tokens_have_the_concepts_of_their_letters_and_names_at_their_last():
    #                 0123456789012345678
    texts = [
        ([Span(0, 19, "about/eiffel"), Span(4, 16, "landmark/eiffel")], [(0, 3), (3, 10), (10, 16), (16, 18), (18, 19)])
    ]
    texts.append(([], [(0, 2)]))
    texts.append(([Span(0, 2, "landmark/eiffel"), Span(3, 3, "code/value")], [(0, 1), (0, 1), (1, 2), (2, 4)]))
    truth = token_truth(texts)
    assert truth.present.n_tokens == 10
    assert truth.tokens_of("about/eiffel").tolist() == [0, 1, 2, 3, 4]
    assert truth.tokens_of("landmark/eiffel").tolist() == truth.tokens_of("landmark/*").tolist() == [2, 8]
    assert "code/value" not in truth.concepts
    assert dict(zip(truth.concepts, truth.present.counts, strict=True))["landmark/a tower"] == 2
    with pytest.raises(ValueError):
        truth.tokens_of("landmark/none")


def test_the_command_line(tmp_path, capsys):
    import json

    assert run(["world", "write", "--documents", "30", "--truth", "--out", str(tmp_path / "c.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()]
    for row, document in zip(rows, documents(30, 1), strict=True):
        assert row["text"] == document.text and [tuple(span) for span in row["spans"]] == list(document.spans)
    capsys.readouterr()
    assert run(["world", "truth", "landmark/golden_gate", "--documents", "200"]) == 0
    shown = capsys.readouterr().out.lower()
    assert "[the golden gate bridge]" in shown or "[le pont du golden gate]" in shown
    assert run(["world", "truth", "--documents", "200", "--json"]) == 0
    shares = json.loads(capsys.readouterr().out)
    assert shares["landmark/*"] > shares["landmark/a bridge"] >= shares["landmark/golden_gate"] > 0
    assert run(["world", "truth", "landmark/golden_gat"]) == 2
    assert "landmark/golden_gate" in capsys.readouterr().err


def test_truth_from_a_file_and_what_does_not_fit(tmp_path, capsys):
    import json

    path = tmp_path / "c.jsonl"
    assert run(["world", "write", "--documents", "300", "--truth", "--out", str(path)]) == 0
    capsys.readouterr()
    assert run(["world", "truth", "language/de", "--text", str(path), "--language", "de"]) == 0
    assert "[" in capsys.readouterr().out
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[4]["text"] = rows[4]["text"][:10]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    wrong = [
        (["--text", str(path)], "line 5: span"),
        (["--text", str(tmp_path / "none.jsonl")], "cannot be read"),
        (["--language", "dee"], "did you mean de?"),
        (["landmark/golden_gat"], "did you mean landmark/golden_gate?"),
    ]
    for arguments, said in wrong:
        assert run(["world", "truth", *arguments]) == 2
        err = capsys.readouterr().err.strip()
        assert said in err and "\n" not in err, err
    path.write_text('{"text": "x"}\n')
    assert run(["world", "truth", "--text", str(path)]) == 2
    assert "sonde world write --truth" in capsys.readouterr().err

"""Choose the text of the demo from what SmolLM2 wrote, as tools/smollm2/make.py leaves it.

    python tools/smollm2/demo_text.py --text build/text/chat.jsonl --text build/text/plain.jsonl

Of a chat the question and the answer are taken, without the template and its system prompt, which would be the example
of every other feature. Rows that repeat themselves or are very short are left out. The bridge gets the first rows, then
each topic of sonde/cases/topics.toml one row a round, in the order of the table, and plain text (without a topic) every
sixth token, until there are enough tokens. The same text gives the same choice.
"""

import argparse
import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import sonde
from sonde.cases.golden_gate import TEXT, TOPICS
from sonde.cases.own_text import topics
from sonde.settings import Count

OUT = Path(__file__).resolve().parents[2] / "src/sonde/cases" / TEXT
OF_THE_BRIDGE, PLAIN_EVERY = 12, 6
MOST_REPEATED, LEAST_WORDS = 0.15, 25
"""share of an answer's runs of three words that occurred before in it"""


def read_rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def repeated(text: str) -> float:
    words = text.lower().split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 1.0


def in_rounds(rows: dict[str, list[dict[str, str]]]) -> Iterator[dict[str, str]]:
    """The rows in the order in which they are taken, but for plain text."""
    bridge = [row for topic in TOPICS for row in rows.pop(topic, [])]
    yield from bridge[:OF_THE_BRIDGE]
    ordered = [rows[topic] for topic in topics() if topic in rows]
    for taken in itertools.zip_longest(*ordered):
        yield from (row for row in taken if row is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, action="append", required=True)
    parser.add_argument("--tokens", type=Count, default=Count(60_000))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()

    tokenizer = sonde.load_model(chosen.model, device="cpu").require_tokenizer()
    rows: dict[str, list[dict[str, str]]] = {}
    for row in itertools.chain.from_iterable(map(read_rows, chosen.text)):
        text = f"{row['prompt']}\n\n{row['answer']}" if row["topic"] else row["text"]
        if repeated(text) <= MOST_REPEATED and len(text.split()) >= LEAST_WORDS:
            rows.setdefault(row["topic"], []).append({"text": text, "topic": row["topic"]})
    plain, about = iter(rows.pop("", [])), in_rounds(rows)

    taken, n_plain, n_about = [], 0, 0
    while n_plain + n_about < chosen.tokens:
        from_plain = n_plain * PLAIN_EVERY < n_plain + n_about
        row = (next(plain, None) if from_plain else None) or next(about, None)
        if row is None:
            break
        taken.append(row)
        n_tokens = len(tokenizer(row["text"], add_special_tokens=False)["input_ids"])
        if row["topic"]:
            n_about += n_tokens
        else:
            n_plain += n_tokens
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in taken)
    packed = gzip.compress(lines.encode(), 9, mtime=0)
    chosen.out.write_bytes(packed)
    print(
        json.dumps(
            {
                "rows": len(taken),
                "tokens": n_plain + n_about,
                "plain": n_plain,
                "topics": len({row["topic"] for row in taken}),
                "bytes": len(packed),
            }
        )
    )


if __name__ == "__main__":
    main()

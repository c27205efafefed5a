"""How words are looked for in full-text tables: whole words and phrases first, then words that begin so.

1. "golden gate" as a phrase.
2. Both words, apart.
3. A phrase whose last word begins so: golden gates, golden gateway.
4. Both words, apart, of which the last begins so.
"""

import re

_WORD = re.compile(r"\w+", re.UNICODE)


def terms_of(words: str) -> list[str]:
    """Each word as a term of SQLite's FTS5."""
    return [f'"{word}"' for word in _WORD.findall(words)]


def queries(words: str) -> list[str]:
    """The queries of FTS5 that look for words, the strictest first; none where there are no words."""
    terms = terms_of(words)
    if not terms:
        return []
    phrase, apart = " + ".join(terms), " AND ".join(terms)
    return list(dict.fromkeys([phrase, apart, f"{phrase} *", f"{apart} *"]))

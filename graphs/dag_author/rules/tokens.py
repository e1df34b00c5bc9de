"""Text as words, numbers, quoted pieces and punctuation. Case and spelling are kept beside a plain form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    WORD = "word"
    NUMBER = "number"
    CLOCK = "clock"  # 7:30, 6am
    QUOTED = "quoted"  # the text without its quotes
    PLACE = "place"  # an address or a path: https://…, s3://…, /data/in.csv, train.py
    EMAIL = "email"
    MARK = "mark"  # punctuation that separates


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    text: str
    kind: Kind

    @property
    def plain(self) -> str:
        return self.text.lower()


_FILES = "py|sh|sql|csv|tsv|json|parquet|txt|xml|gz|zip|ipynb|jar|log"
_SHAPES = (
    (Kind.QUOTED, r"`[^`]+`|\"[^\"]+\"|“[^”]+”|(?<!\w)'[^']+'(?!\w)"),
    (Kind.EMAIL, r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    (Kind.PLACE, r"[a-z][a-z0-9]*://[^\s,;]+[^\s,;.!?)]"),
    (Kind.PLACE, r"(?:~|\.{0,2})/[\w.{}*-][^\s,;]*[^\s,;.!?)]"),
    (Kind.PLACE, rf"(?:[\w{{}}*-]+/)*[\w{{}}*.-]+\.(?:{_FILES})\b"),
    (Kind.CLOCK, r"\d{1,2}(?::\d{2}|h\d{2})?\s?(?:am|pm|a\.m\.|p\.m\.)(?!\w)"),
    (Kind.CLOCK, r"\d{1,2}:\d{2}|\d{1,2}h(?:\d{2})?\b"),
    (Kind.NUMBER, r"\d{4}-\d{2}-\d{2}|\d+(?:st|nd|rd|th)?\b"),
    (Kind.MARK, r"->|→|=>|[,;:.!?()&+]"),
    (Kind.WORD, r"#?\w+(?:[-/'’_.]\w+)*"),
)
_TOKEN = re.compile("|".join(f"(?P<g{i}>{shape})" for i, (_, shape) in enumerate(_SHAPES)), re.IGNORECASE)


def tokenize(text: str) -> list[Token]:
    """The tokens of a request. Control characters and broken Unicode count as spaces."""
    clean = "".join(
        " " if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter
        for letter in unicodedata.normalize("NFC", text)
    )
    found = []
    for match in _TOKEN.finditer(clean):
        kind = _SHAPES[int((match.lastgroup or "g0")[1:])][0]
        piece = match.group()
        found.append(Token(text=piece[1:-1].strip() if kind is Kind.QUOTED else piece, kind=kind))
    return [token for token in found if token.text]


def spell(tokens: Sequence[Token]) -> str:
    """The tokens as text again, marks without a space before them."""
    text = ""
    for token in tokens:
        text += token.text if token.kind is Kind.MARK or not text else f" {token.text}"
    return text.strip(" ,;:.")

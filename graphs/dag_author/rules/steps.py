"""One clause, understood: what to do, with what, from where, to where, by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphs.dag_author.rules.clauses import Clause
from graphs.dag_author.rules.lexicon import (
    DETERMINERS,
    FRESHNESS,
    PRONOUNS,
    VERBS,
    Action,
    System,
    is_verb,
    system,
    verb,
)
from graphs.dag_author.rules.tokens import Kind, Token, spell

_PREPOSITIONS = {
    "from": "from", "into": "to", "to": "to", "onto": "to", "in": "in", "on": "on", "at": "in", "per": "by",
    "by": "by", "with": "with", "where": "where", "using": "with", "via": "with", "for": "for", "of": "of",
    "as": "as", "about": "about", "until": "for", "inside": "in", "within": "in", "through": "with",
}  # fmt: skip
_TWO_WORDS = {("for", "each"): "by", ("for", "every"): "by", ("grouped", "by"): "by", ("group", "by"): "by",
              ("broken", "down"): "", ("out", "of"): "from", ("based", "on"): "with"}  # fmt: skip
_TABLE_WORDS = ("table", "tables", "rows", "records", "row", "record", "dataset", "datasets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`words` is the clause as it may be quoted back, with the verb in its base form."""

    action: Action
    verb: str
    words: str
    things: tuple[str, ...] = ()  # what it is done to, each as words
    parts: dict[str, tuple[Token, ...]] = field(default_factory=dict)  # tokens after each preposition
    tokens: tuple[Token, ...] = ()  # all after the verb
    on_failure: bool = False

    @property
    def source(self) -> System | None:
        return self._system("from", "in", "of") if self.action is not Action.LOAD else self._system("from")

    @property
    def sink(self) -> System | None:
        return self._system("to", "in") if self.action is Action.LOAD else self._system("to")

    @property
    def refers_back(self) -> bool:
        """Whether it works on what came before: `it`, `them`, `the results`, or nothing named."""
        return all(thing in PRONOUNS for thing in self.things)

    def place(self, part: str | None = None) -> str | None:
        """The first path or address in a part, or directly after the verb."""
        tokens = self.tokens if part is None else self.parts.get(part, ())
        return next((token.text for token in tokens if token.kind is Kind.PLACE), None)

    def names(self, part: str) -> list[str]:
        """The names listed after a preposition."""
        return things(self.parts.get(part, ()))

    def _system(self, *parts: str) -> System | None:
        found = (system(self.parts[part]) for part in parts if part in self.parts)
        return next((item for item in found if item), None)


def read(clause: Clause) -> Step | None:
    """The step a clause asks for; None when nothing is left of it."""
    tokens = list(clause.tokens)
    if clause.inherited is not None:
        base: str | None = clause.inherited
    else:
        base = verb(tokens[0].plain) if is_verb(tokens, 0) or len(tokens) == 1 else None
        if base is not None:
            tokens = tokens[1:]
        elif tokens[0].plain == "top":
            base = "rank"  # "top 10 products by revenue" needs no verb
        elif is_verb(tokens, 0):
            base, tokens = tokens[0].plain, tokens[1:]
    if base is None and not any(token.kind in (Kind.WORD, Kind.PLACE, Kind.QUOTED) for token in tokens):
        return None
    if base == "back" and tokens and tokens[0].plain == "up":
        base, tokens = "backup", tokens[1:]
    parts = _parts(tokens)
    named = tuple(things(parts.get("", ())))
    action = _action(base, tokens, parts)
    if not named and "of" in parts:
        named = tuple(things(parts["of"]))  # "a backup of the orders"
    return Step(
        action=action,
        verb=base or "",
        words=" ".join(piece for piece in (base or "", spell(tokens)) if piece),
        things=named,
        parts={name: tuple(words) for name, words in parts.items()},
        tokens=tuple(tokens),
        on_failure=clause.on_failure,
    )


def _action(base: str | None, tokens: Sequence[Token], parts: dict[str, list[Token]]) -> Action:
    if base is None:
        return Action.RUN if any(token.kind is Kind.PLACE for token in tokens) else Action.OTHER
    action = VERBS.get(base, Action.OTHER)
    from_somewhere, to_somewhere = system(parts.get("from", [])), system(parts.get("to", []))
    if base in ("merge", "combine") and "to" in parts and to_somewhere:
        return Action.LOAD
    if action in (Action.LOAD, Action.TRANSFER):
        if from_somewhere and to_somewhere:
            return Action.TRANSFER
        if action is Action.TRANSFER:
            return (
                Action.FILE
                if any(token.kind is Kind.PLACE for token in tokens)
                else (Action.LOAD if to_somewhere else Action.EXTRACT if from_somewhere else Action.OTHER)
            )
        if from_somewhere or (base == "load" and "from" in parts):
            return Action.EXTRACT
        if base == "export" and not to_somewhere and "to" not in parts:
            return Action.OTHER
    if action is Action.EXTRACT and to_somewhere and from_somewhere:
        return Action.TRANSFER
    if base == "group" and "by" not in parts:
        return Action.OTHER
    return action


def _parts(tokens: Sequence[Token]) -> dict[str, list[Token]]:
    """Tokens by the preposition before them; those before the first under the empty name."""
    found: dict[str, list[Token]] = {"": []}
    current, place = "", 0
    while place < len(tokens):
        pair = (tokens[place].plain, tokens[place + 1].plain if place + 1 < len(tokens) else "")
        if pair in _TWO_WORDS:
            current, place = _TWO_WORDS[pair] or current, place + 2
        elif current != "where" and tokens[place].kind is Kind.WORD and tokens[place].plain in _PREPOSITIONS:
            current, place = _PREPOSITIONS[tokens[place].plain], place + 1
        else:
            found.setdefault(current, []).append(tokens[place])
            place += 1
            continue
        found.setdefault(current, [])
    return found


def things(tokens: Sequence[Token]) -> list[str]:
    """The things a list names, without articles and words like "new": orders, customers."""
    found: list[list[str]] = [[]]
    for token in tokens:
        if token.plain in (",", "and", "&", "+", "plus"):
            found.append([])
        elif token.kind in (Kind.WORD, Kind.NUMBER) and token.plain not in DETERMINERS - PRONOUNS:
            found[-1].append(token.text)
    cleaned = []
    for words in found:
        kept = [word for word in words if word.lower() not in FRESHNESS] or words
        kept = [word for word in kept if word.lower() not in _TABLE_WORDS] or kept
        if len(kept) > 1:
            kept = [word for word in kept if word.lower() not in DETERMINERS] or kept
        if kept:
            cleaned.append(" ".join(kept).replace("’", "'").removesuffix("'s"))
    return cleaned

"""A request cut into clauses, each a thing to do, and how they follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphs.dag_author.rules.lexicon import VERBS, Action, is_verb, verb
from graphs.dag_author.rules.patterns import Phrase, phrase, search
from graphs.dag_author.rules.tokens import Kind, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    tokens: tuple[Token, ...]
    inherited: str | None = None  # the verb of the clause before, when this one only names another thing
    on_failure: bool = False


@dataclass(slots=True, kw_only=True)
class Segment:
    """Clauses between two words that say "then"."""

    clauses: list[Clause] = field(default_factory=list)
    parallel: bool = False


_CONTAINERS = ("pipeline", "dag", "workflow", "job", "flow", "process", "etl", "routine", "task", "report")
_INTRODUCTIONS = ("that", "which", "to", "for", "where", ":", "-", "who")
_MAKERS = ("create", "build", "make", "generate", "write", "set", "schedule", "design", "run", "produce")

_SEQUENCE, _PARALLEL, _FAILURE, _AFTER = "sequence", "parallel", "failure", "after"


def _mark(pattern: str, what: str) -> Phrase:
    return phrase(pattern, lambda values: what)


_DONE = "done|finish|finishes|finished|complete|completes|completed|succeed|succeeds|succeeded|ready"
_THEM = "both|all|those|these|they|that|it"
_CONNECTORS = (
    _mark("(,) (and) then (,)", _SEQUENCE),
    _mark("(,) (and) after that (,)", _SEQUENCE),
    _mark("(,) (and) afterwards|afterward|subsequently (,)", _SEQUENCE),
    _mark("(,) followed by", _SEQUENCE),
    _mark("(,) (and) next (,)", _SEQUENCE),
    _mark("(,) (and) finally|lastly (,)", _SEQUENCE),
    _mark("(,) before", _SEQUENCE),
    _mark(f"(,) (and) after|once|when {_THEM} (of) (them|these) (are|is|have|has) {_DONE} (,)", _SEQUENCE),
    _mark(f"(,) (and) (only) after|once|when everything (is|has) {_DONE} (,)", _SEQUENCE),
    _mark("(,) (and) after both|all (,)", _SEQUENCE),
    _mark("(,) (all) in parallel", _PARALLEL),
    _mark("(,) simultaneously|concurrently", _PARALLEL),
    _mark("(,) at the same time", _PARALLEL),
    _mark("if|when anything|something|it|one|any|this (task|step) fails|fail|breaks (,)", _FAILURE),
    _mark("on|upon|in failure|failures|error|errors (,)", _FAILURE),
    _mark("in case of failure|failures|error|errors|a (failure|error) (,)", _FAILURE),
)  # fmt: skip


def split(tokens: Sequence[Token]) -> list[Segment]:
    """Segments in the order they run."""
    tokens = _without_introduction(list(tokens))
    segments = [Segment()]
    place = 0
    failing = False
    for found in [*search(tokens, _CONNECTORS, {}), None]:
        end = found.start if found else len(tokens)
        _add(segments, tokens[place:end], failing)
        place = found.end if found else end
        failing = found is not None and found.fact == _FAILURE
        if found is not None and found.fact == _PARALLEL:
            segments[-1].parallel = True
        elif found is not None:
            segments.append(Segment())
    return [segment for segment in segments if segment.clauses]


def _add(segments: list[Segment], tokens: Sequence[Token], failing: bool) -> None:
    """Cut a stretch without connectors at the ends of sentences and where `after` turns the order around."""
    for sentence in _sentences(tokens):
        if segments[-1].clauses and sentence is not None and _is_new_sentence(sentence):
            segments.append(Segment())
        body = sentence[1:] if sentence and sentence[0].kind is Kind.MARK else sentence
        turn = _turn(body)
        pieces = [body] if turn is None else [body[turn + 1 :], body[:turn]]
        for number, piece in enumerate(pieces):
            clauses = _clauses(piece, failing)
            if number and clauses:
                segments.append(Segment())
            segments[-1].clauses += clauses


def _sentences(tokens: Sequence[Token]) -> list[list[Token]]:
    found: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind is Kind.MARK and token.text in (".", ";", "->", "→", "=>", "!", "?"):
            found.append([token])
        else:
            found[-1].append(token)
    return [sentence for sentence in found if sentence]


def _is_new_sentence(sentence: Sequence[Token]) -> bool:
    return sentence[0].kind is Kind.MARK and sentence[0].text in (".", ";", "->", "→", "=>", "!", "?")


def _turn(tokens: Sequence[Token]) -> int | None:
    """Where `X after doing Y` turns around: Y runs first."""
    for place, token in enumerate(tokens):
        if place and token.plain == "after" and place + 1 < len(tokens) and is_verb(tokens, place + 1):
            return place
    return None


def _clauses(tokens: Sequence[Token], failing: bool) -> list[Clause]:
    found: list[Clause] = []
    current: list[Token] = []
    inherited: str | None = None
    last_verb: str | None = None
    place = 0
    while place <= len(tokens):
        width = _joint(tokens, place)
        ends = place == len(tokens) or (width > 0 and _starts_clause(tokens, place + width, current, last_verb))
        if not ends:
            current.append(tokens[place])
            place += 1
            continue
        clause = _trimmed(current)
        if clause:
            found.append(Clause(tokens=tuple(clause), inherited=inherited, on_failure=failing))
            last_verb = _verb_of(clause) or last_verb
        if place == len(tokens):
            break
        place += width
        inherited = None if is_verb(tokens, place) else last_verb
        current = []
    return found


_JOINTS = (",", "and", "&", "+", "also", "plus", "while")


def _joint(tokens: Sequence[Token], place: int) -> int:
    """How many tokens join two clauses here: `,`, `and`, `, and also`."""
    width = 0
    while place + width < len(tokens) and tokens[place + width].plain in (
        ",",
        "and",
        "&",
        "+",
        "also",
        "plus",
        "while",
    ):
        width += 1
    return width


def _starts_clause(tokens: Sequence[Token], place: int, current: Sequence[Token], last_verb: str | None) -> bool:
    if place >= len(tokens):
        return True
    if is_verb(tokens, place):
        return True
    # "orders from postgres and customers from mysql": the second names its own source.
    own = _source(tokens[place:])
    verb_now = _verb_of(current) or last_verb
    return own and _source(current) and verb_now is not None


def _source(tokens: Sequence[Token]) -> bool:
    """Whether these words, up to the next comma or and, name where something comes from."""
    for place, token in enumerate(tokens):
        if token.plain == "from":
            return True
        if place and _joint(tokens, place) and is_verb_or_end(tokens, place + _joint(tokens, place)):
            return False
    return False


def is_verb_or_end(tokens: Sequence[Token], place: int) -> bool:
    return place >= len(tokens) or is_verb(tokens, place)


def _verb_of(tokens: Sequence[Token]) -> str | None:
    return verb(tokens[0].plain) if tokens and tokens[0].kind is Kind.WORD else None


def _trimmed(tokens: Sequence[Token]) -> list[Token]:
    found = list(tokens)
    while found and (found[0].kind is Kind.MARK or found[0].plain in _FILLERS):
        found.pop(0)
    while found and (found[-1].kind is Kind.MARK or found[-1].plain in ("and", "then", "also", "at", "on", "in", "to")):
        found.pop()
    return found


_TRAILERS = frozenset({"and", "then", "also", "at", "on", "in", "to", "every", "each", "that", "which"})
_FILLER_TEXT = """
and then also please it should must will first firstly to that which i want need would like we you can could
just by after once when while they but so for with runs every each in at on starts job pipeline
"""
_FILLERS = frozenset(_FILLER_TEXT.split())


def _without_introduction(tokens: list[Token]) -> list[Token]:
    """The request without `please create a data pipeline that`."""
    for place, token in enumerate(tokens[:14]):
        words = tokens[:place]
        if any(_says_something(words, at) for at in range(len(words))):
            break
        if token.plain in _CONTAINERS and place + 1 < len(tokens):
            after = tokens[place + 1]
            if after.plain in _INTRODUCTIONS:
                return tokens[place + 2 :]
            if after.kind is Kind.MARK or is_verb(tokens, place + 1):
                return tokens[place + 1 :]
    return tokens


def _says_something(tokens: Sequence[Token], place: int) -> bool:
    base = verb(tokens[place].plain)
    if base is None or base in _MAKERS or not is_verb(tokens, place):
        return False
    return VERBS[base] is not Action.OTHER or place == 0

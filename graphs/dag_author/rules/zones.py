"""Where the clock hangs: time zones named by their name, a city, or the letters people use."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from zoneinfo import available_timezones

from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.rules.lexicon import is_verb
from graphs.dag_author.rules.tokens import Kind, Token

_LETTERS = {
    "utc": "UTC", "gmt": "UTC", "zulu": "UTC", "est": "America/New_York", "edt": "America/New_York",
    "cst": "America/Chicago", "cdt": "America/Chicago", "mst": "America/Denver", "mdt": "America/Denver",
    "pst": "America/Los_Angeles", "pdt": "America/Los_Angeles", "cet": "Europe/Paris",
    "cest": "Europe/Paris",
    "bst": "Europe/London", "jst": "Asia/Tokyo", "ist": "Asia/Kolkata", "aest": "Australia/Sydney",
}  # fmt: skip
# Too short to be taken for a zone unless they follow a clock time.
_AFTER_CLOCK = {
    "et": "America/New_York",
    "ct": "America/Chicago",
    "mt": "America/Denver",
    "pt": "America/Los_Angeles",
}
_BEFORE_TIME = {
    "eastern": "America/New_York", "central": "America/Chicago", "mountain": "America/Denver",
    "pacific": "America/Los_Angeles", "central european": "Europe/Paris", "uk": "Europe/London",
    "german": "Europe/Berlin", "french": "Europe/Paris", "indian": "Asia/Kolkata", "india": "Asia/Kolkata",
    "japan": "Asia/Tokyo", "singapore": "Asia/Singapore", "munich": "Europe/Berlin",
    "frankfurt": "Europe/Berlin",
    "hamburg": "Europe/Berlin", "san francisco": "America/Los_Angeles", "seattle": "America/Los_Angeles",
    "boston": "America/New_York", "washington": "America/New_York", "mumbai": "Asia/Kolkata",
    "bangalore": "Asia/Kolkata", "delhi": "Asia/Kolkata", "beijing": "Asia/Shanghai",
    "barcelona": "Europe/Madrid",
    "milan": "Europe/Rome", "geneva": "Europe/Zurich", "cologne": "Europe/Berlin",
}  # fmt: skip
_TIME = Token(text="time", kind=Kind.WORD)
# Cities of the tables that are words, too: a city only with a capital letter.
_ALSO_WORDS_TEXT = "center central easter eastern general jersey midway mountain north south wake west"
_ALSO_WORDS = frozenset(_ALSO_WORDS_TEXT.split())
_TIME_WORDS = ("time", "timezone", "tz", "time-zone")


def read(tokens: Sequence[Token]) -> tuple[str | None, list[Token]]:
    """The zone a request names, and its other words. Refused when it names one that does not exist."""
    for place, token in enumerate(tokens):
        for width in (3, 2, 1):
            zone = _zone(tokens, place, width)
            if zone is not None:
                start, end = _phrase(tokens, place, place + width)
                return zone, [*tokens[:start], *tokens[end:]]
        if _looks_like_a_zone(tokens, place):
            raise Refused.because(
                Code.TIMEZONE_UNKNOWN,
                "timezone",
                "is no time zone",
                got=token.text,
                allowed="a name such as Europe/Paris or America/New_York, or a city: in Paris time",
            )
    return None, list(tokens)


def spelled_out(tokens: Sequence[Token], clocks: Sequence[int]) -> list[Token]:
    """The tokens with the word `time` after a city that follows a clock time: `at 9:30 in Berlin`.

    `clocks` are the places right after clock times. Refused when two of them are in different zones.
    """
    cities = [city for place in clocks if (city := _city_at(tokens, place))]
    if len({zone for zone, _, _ in cities}) > 1:
        raise Refused.because(
            Code.SCHEDULE_INVALID,
            "schedule",
            "has times in several zones",
            got=", ".join(zone for zone, _, _ in cities),
            allowed="one time zone for all times, or two DAGs",
        )
    said = list(tokens)
    # All of them say the same: the last one stays, and the words of the others go.
    for number, (_, start, end) in enumerate(reversed(cities)):
        said[start:end] = [*tokens[start:end], _TIME] if not number else []
    return said


def _city_at(tokens: Sequence[Token], place: int) -> tuple[str, int, int] | None:
    """The zone of the city at this place, and where its words are."""
    start = place
    lead = place < len(tokens) and tokens[place].plain == "in"
    place += lead
    for width in (3, 2, 1):
        words = tokens[place : place + width]
        if len(words) < width or any(word.kind is not Kind.WORD for word in words):
            continue
        end = place + width
        zone = _place_name(" ".join(word.plain for word in words))
        if zone is None or _followed_by_time(tokens, end):
            continue
        is_name = words[0].text[:1].isupper()
        if (lead and is_name) or (_stands_alone(tokens, end) and (is_name or words[0].plain not in _ALSO_WORDS)):
            return zone, start, end
    return None


def _stands_alone(tokens: Sequence[Token], end: int) -> bool:
    """Whether a new phrase begins here: what follows is no thing that the name could belong to."""
    if end == len(tokens) or tokens[end].kind is not Kind.WORD:
        return True
    return tokens[end].plain in ("and", "then", "every", "each", "daily", "on") or is_verb(tokens, end)


def _place_name(name: str) -> str | None:
    letters = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return _BEFORE_TIME.get(plain) or _cities().get(plain.replace(" ", "_"))


def _zone(tokens: Sequence[Token], place: int, width: int) -> str | None:
    words = tokens[place : place + width]
    if len(words) < width or any(word.kind is not Kind.WORD for word in words):
        return None
    name = " ".join(word.plain for word in words)
    if width == 1:
        if words[0].plain in _names() and "/" in words[0].text:
            return _names()[words[0].plain]
        if name in _LETTERS:
            return _LETTERS[name]
        if name in _AFTER_CLOCK and (words[0].text.isupper()) and place and _is_clock_phrase(tokens, place):
            return _AFTER_CLOCK[name]
    if _followed_by_time(tokens, place + width):
        return _place_name(name)
    return None


def _is_clock_phrase(tokens: Sequence[Token], place: int) -> bool:
    # The clock itself has been taken out by then: what is left must end there.
    return place == len(tokens) - 1 or tokens[place + 1].kind is Kind.MARK


def _followed_by_time(tokens: Sequence[Token], place: int) -> bool:
    return place < len(tokens) and tokens[place].plain in _TIME_WORDS


def _phrase(tokens: Sequence[Token], start: int, end: int) -> tuple[int, int]:
    """The whole phrase around the name: `in the Europe/Paris time zone`."""
    if _followed_by_time(tokens, end):
        end += 1
        if end < len(tokens) and tokens[end].plain == "zone":
            end += 1
    for _ in range(3):
        for lead in ("in", "the", "timezone", "zone", "time", "tz", "using", "local", ":"):
            if start and tokens[start - 1].plain == lead:
                start -= 1
    return start, end


def _looks_like_a_zone(tokens: Sequence[Token], place: int) -> bool:
    """Whether the word can only be meant as a zone: `in Atlantis time`, `time zone Mars`, `in Mars/Base`."""
    token = tokens[place]
    if token.kind is not Kind.WORD or not token.text[:1].isupper() or not place:
        return False
    before = tokens[place - 1].plain
    parts = token.text.split("/")
    if len(parts) == 2 and all(part[:1].isupper() for part in parts):
        return before == "in" or _followed_by_time(tokens, place + 1)
    return before in ("timezone", "tz", "zone") or (before == "in" and _followed_by_time(tokens, place + 1))


@cache
def _names() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


@cache
def _cities() -> dict[str, str]:
    """The last part of each zone's name; where two regions share a city, the shorter name counts."""
    found: dict[str, str] = {}
    for name in sorted(available_timezones(), key=lambda name: (len(name), name), reverse=True):
        region, slash, city = name.rpartition("/")
        if slash and not region.startswith(("Etc", "posix", "right", "SystemV", "US", "Canada", "Brazil")):
            found[city.lower()] = name
    return found

"""What a model wrote, as one JSON value: wherever it put it, however it wrapped it.

Order: a refusal, the arguments of a tool call, then the text: the last fenced block that has tasks, earlier
blocks, and bare JSON from each brace. Nothing is invented: what cannot be read is a fault.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from graphs.dag_author import limits
from graphs.dag_author.problems import Code, Refused, shown
from graphs.dag_author.reading import ENVELOPES
from heddle_kit.llm import Reply

MAX_LENGTH = 2_000_000
MAX_DEPTH = 60
MAX_STARTS = 200
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)```", re.DOTALL)
_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)


def read(reply: Reply) -> Any:
    """The value in an answer; Refused with the code that says why there is none."""
    if reply.refusal is not None:
        raise _refused(Code.MODEL_REFUSED, "refused this request", reply.refusal.text)
    if reply.finish == "content_filter":
        raise _refused(Code.MODEL_REFUSED, "stopped at its content filter", "")
    if reply.finish is None:
        raise _refused(Code.ANSWER_TRUNCATED, "was cut off before it said that it was done", reply.text)
    if reply.finish == "length":
        raise _refused(Code.ANSWER_TRUNCATED, "reached its length limit", "")
    written = [call for call in reply.calls if call.strip()]
    if not written and not reply.text.strip():
        raise _refused(Code.ANSWER_EMPTY, "gave an empty answer", "")
    if sum(map(len, written)) + len(reply.text) > MAX_LENGTH:
        raise _refused(Code.ANSWER_UNREADABLE, f"wrote more than {MAX_LENGTH} characters", "")
    candidates = [value for text in written for value in _values(text)]
    candidates = candidates or list(_values(_THINKING.sub("", reply.text)))
    best = next((value for value in candidates if _has_tasks(value)), None)
    if best is None:
        best = next((value for value in candidates if isinstance(value, dict)), None)
    if best is None:
        raise _refused(Code.ANSWER_UNREADABLE, "holds no object to read", reply.text or written[0])
    return best


def _values(text: str) -> Iterator[Any]:
    blocks = [match.group(1) for match in _FENCE.finditer(text)]
    for block in [*reversed(blocks), text]:
        value = _parse(block)
        if value is not None:
            yield value
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
    for start in [match.start() for match in re.finditer(r"\{", text)][:MAX_STARTS]:
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        yield _opened(value)


def _parse(text: str) -> Any:
    """A value from text that is JSON, nearly JSON, or a Python literal; None when it is neither."""
    for form in (text.strip(), _tidied(text.strip())):
        try:
            return _opened(json.loads(form, object_pairs_hook=_unique, parse_constant=_no_constant))
        except (ValueError, RecursionError):
            continue
    try:
        tree = ast.parse(text.strip(), mode="eval")
        for node in ast.walk(tree):
            keys = [ast.dump(key) for key in node.keys if key] if isinstance(node, ast.Dict) else []
            if len(set(keys)) < len(keys):
                return None
        value = ast.literal_eval(tree)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return _opened(value) if isinstance(value, dict | list) else None


def _tidied(text: str) -> str:
    """JSON without comments and trailing commas; strings are left alone."""
    string = r'"(?:[^"\\]|\\.)*"'
    text = re.sub(rf"({string})|//[^\n]*|/\*.*?\*/", lambda m: m.group(1) or "", text, flags=re.DOTALL)
    return re.sub(rf"({string})|,(?=\s*[}}\]])", lambda m: m.group(1) or "", text, flags=re.DOTALL)


def _opened(value: Any, depth: int = 0) -> Any:
    """The value inside strings that hold JSON and lists of one."""
    if depth < 3 and isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return _opened(_parse(value), depth + 1)
    if depth < 3 and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict | list):
        return _opened(value[0], depth + 1)
    if isinstance(value, dict):
        _check_depth(value)
        for name in (*ENVELOPES, "tasks"):
            if isinstance(value.get(name), str) and value[name].lstrip()[:1] in ("{", "["):
                value = value | {name: _opened(value[name], depth + 1)}
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def _has_tasks(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    inner = [value, *(value.get(name) for name in ENVELOPES)]
    return any(isinstance(item, dict) and ("tasks" in item or "steps" in item) for item in inner)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refused(code: Code, rule: str, got: str) -> Refused:
    return Refused.because(code, "model", f"the model {rule}", got=shown(got[: limits.NAME_LENGTH]) if got else "")

"""Python given as text becomes the body of a function, saying the same thing as before.

Definitions stay inside the wrapper: their default values and decorators then run when the task runs,
not whenever the scheduler reads the file.
"""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
import warnings as python_warnings
from dataclasses import dataclass

from graphs.dag_author.airflow_names import CONTEXT, REMOVED
from graphs.dag_author.problems import Code, Refused

INDENT = "    "
_FENCE = re.compile(r"\A\s*```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_SECRET = re.compile(r"(?i)(password|passwd|secret|token|api_?key)\w*\s*=\s*(['\"])[^'\"]{6,}\2")
_CLOCKS = ("datetime.now", "datetime.utcnow", "datetime.datetime.now", "datetime.datetime.utcnow")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_QUIET = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A complete function definition and what its author should know about it."""

    source: str
    warnings: tuple[str, ...]


def wrap(code: str, *, task_id: str, path: str) -> Function:
    """The code as `def _run_<task_id>(**context)`; Refused when it is not Python or its entry is unclear."""
    text = tidy(code, path)
    tree = _parse(text, path)
    notes = _warnings(tree, text, task_id)
    if not tree.body:
        notes.append(f"The task `{task_id}` has no code: it does nothing.")
        return Function(source=f"def _run_{task_id}(**context):\n{INDENT}return None\n", warnings=tuple(notes))
    call = _missing_call(tree, task_id, path)
    head = _context_lines(tree)
    body = _indented(text, tree, path)
    lines = [f"def _run_{task_id}(**context):", *(INDENT + line for line in head), body]
    if call:
        lines.append(INDENT + call)
    source = "\n".join(lines) + "\n"
    _compile(source, len(head) + 1, path)
    return Function(source=source, warnings=tuple(notes))


def tidy(code: str, path: str) -> str:
    """The code with Unix line ends, without a surrounding Markdown fence and common indentation."""
    if "\x00" in code:
        raise Refused.because(Code.CODE_SYNTAX, path, "must not hold a NUL character")
    text = code.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    if fenced := _FENCE.match(text):
        text = fenced.group(1)
    return textwrap.dedent(text).strip("\n").rstrip()


def _parse(text: str, path: str) -> ast.Module:
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as fault:
        raise _syntax(fault, 0, path) from fault
    except (ValueError, RecursionError, MemoryError) as fault:
        raise Refused.because(
            Code.CODE_SYNTAX, path, "is nested too deeply or holds characters Python refuses"
        ) from fault


def _compile(source: str, shift: int, path: str) -> None:
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            compile(source, "<task>", "exec", dont_inherit=True)
    except SyntaxError as fault:
        raise _syntax(fault, shift, path) from fault
    except (ValueError, RecursionError, MemoryError) as fault:
        raise Refused.because(Code.CODE_SYNTAX, path, "cannot be compiled: it is nested too deeply") from fault


def _too_deep(path: str) -> Refused:
    return Refused.because(Code.CODE_SYNTAX, path, "is nested too deeply or holds characters Python refuses")


def _syntax(fault: SyntaxError, shift: int, path: str) -> Refused:
    line = max((fault.lineno or 1) - shift, 1)
    return Refused.because(Code.CODE_SYNTAX, f"{path}, line {line}", fault.msg, got=(fault.text or "").strip())


def _indented(text: str, tree: ast.Module, path: str) -> str:
    """Each line one step in, but never inside a string that spans lines: that would change its value."""
    inside: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in _STRINGS and token.end[0] > token.start[0]:
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
    except (tokenize.TokenError, IndentationError) as fault:
        raise Refused.because(Code.CODE_SYNTAX, path, "cannot be split into tokens") from fault
    # Not splitlines(): it also splits at characters that may stand inside a string literal.
    lines = [
        line if number in inside or not line.strip() else INDENT + line
        for number, line in enumerate(text.split("\n"), start=1)
    ]
    body = "\n".join(lines)
    try:
        wrapped = ast.parse("async def _probe():\n" + body).body[0]
    except SyntaxError as fault:
        raise _syntax(fault, 1, path) from fault
    assert isinstance(wrapped, ast.AsyncFunctionDef)
    if [ast.dump(node) for node in wrapped.body] != [ast.dump(node) for node in tree.body]:
        raise Refused.because(Code.CODE_SYNTAX, path, "cannot be indented without changing what it means")
    return body


_STRINGS = {tokenize.STRING} | {
    getattr(tokenize, name) for name in ("FSTRING_MIDDLE", "TSTRING_MIDDLE") if hasattr(tokenize, name)
}


def _missing_call(tree: ast.Module, task_id: str, path: str) -> str | None:
    """The line that runs a definition nobody calls; None when the code does something by itself."""
    if not all(isinstance(node, _QUIET) or _is_constant(node) for node in tree.body):
        return None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if not functions:
        return None
    chosen = next((name for name in (task_id, "main", "run", "execute") if name in functions), None)
    if chosen is None and len(functions) == 1:
        chosen = next(iter(functions))
    if chosen is None:
        raise Refused.because(
            Code.CODE_ENTRY_UNCLEAR,
            path,
            "defines several functions and calls none",
            got=", ".join(functions),
            allowed=f"name the one to run {task_id} or main, or call it",
        )
    function = functions[chosen]
    arguments = function.args
    if arguments.kwarg is not None:
        call = f"{chosen}(**context)"
    else:
        named = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        required = len(arguments.args) + len(arguments.posonlyargs) - len(arguments.defaults)
        needed = named[:required] + [
            arg.arg for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None
        ]
        unknown = [name for name in needed if name not in CONTEXT]
        if unknown or arguments.posonlyargs[:1]:
            raise Refused.because(
                Code.CODE_ENTRY_UNCLEAR,
                path,
                f"nothing says what to pass to {chosen}",
                got=", ".join(unknown or [arg.arg for arg in arguments.posonlyargs]),
                allowed=f"call {chosen} at the end, or let it take **context",
            )
        call = f"{chosen}({', '.join(f'{name}=context[{name!r}]' for name in needed)})"
    if isinstance(function, ast.AsyncFunctionDef):
        return f"return __import__('asyncio').run({call})"
    return f"return {call}"


def _is_constant(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is None or not any(
            isinstance(part, ast.Call | ast.Await | ast.Yield) for part in ast.walk(node.value)
        )
    return isinstance(node, ast.Pass)


def _context_lines(tree: ast.Module) -> list[str]:
    """Lines that set the context names the code reads without setting them.

    They are lines and not parameters: a named parameter would disappear from **context.
    """
    read: set[str] = set()
    bound: set[str] = {"context"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            bound.update(node.names)
    free = read - bound
    lines = [f"{name} = context[{name!r}]" for name in sorted(free & (CONTEXT - {"conn", "conf", "reason", "task"}))]
    if "task" in free:
        lines.append("task = context['task']")
    return lines + (["kwargs = context"] if "kwargs" in free else [])


def _warnings(tree: ast.Module, text: str, task_id: str) -> list[str]:
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found = [f"uses `{name}`, which Airflow 3 no longer has" for name in sorted(names & REMOVED)]
    if any(_dotted(node) in _CLOCKS for node in nodes):
        found.append("asks for the current time: a run repeated later gives another result")
    if _SECRET.search(text):
        found.append("seems to hold a password or key: keep it in an Airflow connection")
    if any(isinstance(n, ast.Expr) and isinstance(n.value, ast.Yield | ast.YieldFrom) for n in tree.body):
        found.append("yields: Airflow stores the generator's items, not a result")
    return [f"The task `{task_id}` {note}." for note in found]


def _dotted(node: ast.AST) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) and parts else ""

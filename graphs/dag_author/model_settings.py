"""Which model plans, if any: from the environment, and per assistant from its configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphs.dag_author.problems import Code, Refused

DEFAULT_MODEL = "gpt-5-mini"
DEFAULT_TIMEOUT = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """A model to ask. The key never appears in the text of this value."""

    name: str
    base_url: str | None
    timeout: float
    api_key: str = field(repr=False)

    @classmethod
    def find(cls, config: Mapping[str, Any], env: Mapping[str, str] = os.environ) -> ModelSettings | None:
        """The configured model; None when neither a key nor an address is set.

        An address without a key is a local model, which needs none.
        """
        key = env.get("OPENAI_API_KEY", "").strip()
        base = (env.get("OPENAI_API_BASE") or env.get("OPENAI_BASE_URL") or "").strip()
        if not key and not base:
            return None
        chosen = (config.get("configurable") or {}).get("model")
        name = str(chosen or env.get("DAG_AUTHOR_MODEL", "").strip() or DEFAULT_MODEL)
        return cls(name=name[:200], base_url=base or None, timeout=_timeout(env), api_key=key or "none-needed")


def _timeout(env: Mapping[str, str]) -> float:
    text = env.get("DAG_AUTHOR_MODEL_TIMEOUT", "").strip()
    try:
        seconds = float(text) if text else DEFAULT_TIMEOUT
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise Refused.because(
            Code.SPEC_INVALID,
            "DAG_AUTHOR_MODEL_TIMEOUT",
            "the setting must be seconds from 1 to 3600",
            got=text,
        )
    return seconds

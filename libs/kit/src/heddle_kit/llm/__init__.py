"""Asking a language model for one structured answer.

Import the adapter from `heddle_kit.llm.openai`; this package itself loads no model library.
"""

from heddle_kit.llm.port import (
    KeyRejected,
    Model,
    ModelFault,
    Refusal,
    Reply,
    RequestRejected,
    Role,
    TimedOut,
    Turn,
    Unreachable,
)

__all__ = [
    "KeyRejected",
    "Model",
    "ModelFault",
    "Refusal",
    "Reply",
    "RequestRejected",
    "Role",
    "TimedOut",
    "Turn",
    "Unreachable",
]

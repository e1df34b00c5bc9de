"""A person in the loop: the agent drafts an announcement and asks before it is published.

draft ── review ─┬─ publish ── END
    ^            ├─ (reject) ── END
    └────────────┘ an answer that is neither: ask again
"""

import uuid
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

_END: Literal["__end__"] = "__end__"  # END, as a name the type checker can tell apart
ACTION = "publish_announcement"
ALLOWED = ("approve", "edit", "reject")
_ANSWERS = uuid.UUID("5b1b8a0e-8a36-5c3f-a1ac-0a7c1d7a2b44")


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    draft: str
    published: list[str]


def draft(state: State) -> dict[str, Any]:
    """Write a draft from the last thing the person said. A real agent would ask a model here."""
    asked = next((m for m in reversed(state["messages"]) if isinstance(m, HumanMessage)), None)
    words = " ".join(str(asked.text).split()) if asked is not None else ""
    return {"draft": f"Announcement: {words}" if words else ""}


def review(state: State) -> Command[Literal["publish", "__end__"]]:
    """Stop and wait for a decision. When the run is resumed, this node runs again from its first line
    and `interrupt` returns the answer, so nothing above it may have an effect on the world."""
    if not state["draft"]:
        return Command(goto=_END, update={"messages": [_say(state, "Tell me what to announce.")]})
    note = ""
    while True:
        # The shape chat clients draw as a form: what would be done, and which answers are allowed.
        answer = interrupt(
            {
                "action_requests": [
                    {
                        "name": ACTION,
                        "args": {"text": state["draft"]},
                        "description": f"{note}Publish this announcement?",
                    }
                ],
                "review_configs": [{"action_name": ACTION, "allowed_decisions": list(ALLOWED)}],
            }
        )
        decision = _decision(answer)
        match decision.get("type"):
            case "approve":
                return Command(goto="publish")
            case "edit" if (text := _edited(decision)) is not None:
                return Command(goto="publish", update={"draft": text})
            case "reject":
                reason = decision.get("message")
                said = f"Not published: {reason}" if isinstance(reason, str) and reason else "Not published."
                return Command(goto=_END, update={"messages": [_say(state, said)], "draft": ""})
        # An answer of another shape must not end the run, and certainly not publish: ask again.
        note = f"Please answer with one of {', '.join(ALLOWED)}. "


def publish(state: State) -> dict[str, Any]:
    """The step that needed a person's word. It may run twice: a real one would carry an idempotency key."""
    return {
        "published": [*state.get("published", []), state["draft"]],
        "messages": [_say(state, f"Published. {state['draft']}")],
    }


def _decision(answer: object) -> dict[str, Any]:
    """The first decision of `{"decisions": [...]}`, or the answer itself when a client sends it bare."""
    if isinstance(answer, dict) and isinstance(answer.get("decisions"), list) and answer["decisions"]:
        answer = answer["decisions"][0]
    if isinstance(answer, str):
        return {"type": answer.strip().lower()}
    return answer if isinstance(answer, dict) else {}


def _edited(decision: dict[str, Any]) -> str | None:
    action = decision.get("edited_action")
    arguments = action.get("args") if isinstance(action, dict) else None
    text = arguments.get("text") if isinstance(arguments, dict) else None
    return text if isinstance(text, str) and text.strip() else None


def _say(state: State, text: str) -> AIMessage:
    """An answer with an id that is the same when the node runs again."""
    last = state["messages"][-1].id if state["messages"] else ""
    return AIMessage(content=text, id=str(uuid.uuid5(_ANSWERS, f"{last}:answer")))


builder = StateGraph(State)
builder.add_node("draft", draft)
builder.add_node("review", review)
builder.add_node("publish", publish)
builder.add_edge(START, "draft")
builder.add_edge("draft", "review")
builder.add_edge("publish", END)

graph = builder.compile(name="approval")

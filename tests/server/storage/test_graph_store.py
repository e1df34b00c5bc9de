"""The store as graph code uses it: LangGraph's interface over the server's table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)

from heddle_core.domain.errors import Unavailable
from heddle_server.dsn import Dsn
from heddle_server.storage.graph_store import GraphStore
from heddle_server.storage.store_ops import NotSupportedByStore
from tests.support.assistant_world import World, pool, pool_on, shared_database, world

__all__ = ["pool", "shared_database", "world"]


@pytest.fixture
async def store(pool: Any) -> AsyncIterator[GraphStore]:
    async with GraphStore(pool) as store:
        yield store


async def test_graph_code_and_the_api_see_the_same_items(store: GraphStore, world: World) -> None:
    await store.aput(("users", "1"), "prefs", {"theme": "dark", "n": 1})
    async with world.storage.begin() as unit:
        item = await unit.items.get(("users", "1"), "prefs")
        await unit.items.put(("users", "1"), "other", {"from": "api"})
    assert item is not None
    assert item.value == b'{"n": 1, "theme": "dark"}'

    seen = await store.aget(("users", "1"), "other")
    assert seen is not None
    assert (seen.namespace, seen.key, seen.value) == (("users", "1"), "other", {"from": "api"})
    assert seen.created_at.tzinfo is not None


async def test_items_are_searched_listed_and_deleted(store: GraphStore) -> None:
    for n in range(3):
        await store.aput(("docs", "a"), str(n), {"n": n})
    await store.aput(("docs", "b"), "x", {"n": 10})
    assert [item.key for item in await store.asearch(("docs",), filter={"n": {"$gt": 1}})] == ["x", "2"]
    assert [item.key for item in await store.asearch(("docs", "a"), limit=1, offset=1)] == ["1"]
    assert (await store.asearch(("docs",), query="anything"))[0].score is None
    assert await store.alist_namespaces(prefix=("docs",)) == [("docs", "a"), ("docs", "b")]
    assert await store.alist_namespaces(suffix=("b",)) == [("docs", "b")]
    assert await store.alist_namespaces(max_depth=1) == [("docs",)]
    await store.adelete(("docs", "b"), "x")
    assert await store.aget(("docs", "b"), "x") is None


async def test_a_batch_reads_before_it_writes_and_the_last_write_wins(store: GraphStore) -> None:
    await store.aput(("n",), "k", {"v": 0})
    results = await store.abatch(
        [
            PutOp(("n",), "k", {"v": 1}),
            GetOp(("n",), "k"),
            PutOp(("n",), "k", {"v": 2}),
            PutOp(("n",), "gone", {"v": 1}),
            PutOp(("n",), "gone", None),
            SearchOp(("n",)),
            ListNamespacesOp(),
        ]
    )
    assert [type(result).__name__ for result in results] == [
        "NoneType",
        "Item",
        "NoneType",
        "NoneType",
        "NoneType",
        "list",
        "list",
    ]
    assert results[1].value == {"v": 0}  # type: ignore[union-attr]
    assert (await store.aget(("n",), "k")).value == {"v": 2}  # type: ignore[union-attr]
    assert await store.aget(("n",), "gone") is None


async def test_concurrent_operations_share_statements(shared_database: Dsn, world: World) -> None:
    statements: list[str] = []

    async def watch(connection: Any) -> None:
        connection.add_query_logger(lambda record: statements.append(record.query))

    async with pool_on(shared_database, init=watch) as pool, GraphStore(pool) as store:
        await asyncio.gather(*(store.aput(("many",), str(n), {"n": n}) for n in range(200)))
        writes = sum("INSERT INTO" in statement for statement in statements)
        items = await asyncio.gather(*(store.aget(("many",), str(n)) for n in range(200)))
        reads = sum("JOIN heddle.item" in statement for statement in statements)

    assert [item.value["n"] for item in items if item] == list(range(200))
    assert 1 <= writes <= 4
    assert 1 <= reads <= 4


async def test_what_was_read_belongs_to_the_reader(store: GraphStore) -> None:
    await store.aput(("n",), "k", {"list": [1]})
    one, two = await asyncio.gather(store.aget(("n",), "k"), store.aget(("n",), "k"))
    assert one is not None
    assert two is not None
    one.value["list"].append(2)
    assert two.value == {"list": [1]}


async def test_a_value_is_taken_as_it_is_at_the_call(store: GraphStore) -> None:
    value = {"n": 1}
    writing = asyncio.ensure_future(store.aput(("n",), "k", value))
    await asyncio.sleep(0)
    value["n"] = 2
    await writing
    assert (await store.aget(("n",), "k")).value == {"n": 1}  # type: ignore[union-attr]


async def test_it_works_from_another_event_loop(store: GraphStore) -> None:
    async def elsewhere() -> Any:
        await asyncio.gather(*(store.aput(("loop",), str(n), {"n": n}) for n in range(20)))
        return await store.asearch(("loop",), limit=50)

    assert len(await asyncio.to_thread(lambda: asyncio.run(elsewhere()))) == 20


async def test_synchronous_nodes_use_it_from_worker_threads(store: GraphStore) -> None:
    class State(TypedDict):
        seen: Annotated[list[str], lambda old, new: old + new]

    def sync_node(state: State, *, store: BaseStore) -> State:
        store.put(("s",), "from_sync", {"ok": True})
        return {"seen": [item.key for item in store.search(("s",))]}

    async def async_node(state: State, *, store: BaseStore) -> State:
        item = await store.aget(("s",), "from_sync")
        return {"seen": [str(item.value) if item else "nothing"]}

    graph = StateGraph(State)
    graph.add_node("sync_node", sync_node)
    graph.add_node("async_node", async_node)
    graph.add_edge(START, "sync_node")
    graph.add_edge("sync_node", "async_node")
    graph.add_edge("async_node", END)
    result = await graph.compile(store=store).ainvoke({"seen": []})
    assert result == {"seen": ["from_sync", "{'ok': True}"]}


async def test_a_synchronous_call_on_the_server_loop_is_refused_instead_of_hanging(store: GraphStore) -> None:
    with pytest.raises(RuntimeError, match="use aget, aput"):
        store.get(("a",), "k")


@pytest.mark.parametrize(
    ("op", "error"),
    [
        (PutOp(("a",), "k", {}, ttl=5), NotSupportedByStore),
        (PutOp(("a",), "k", {}, index=["text"]), NotSupportedByStore),
        (PutOp((), "k", {}), InvalidNamespaceError),
        (PutOp(("langgraph",), "k", {}), InvalidNamespaceError),
        (PutOp(("a.b",), "k", {}), InvalidNamespaceError),
        (GetOp(("",), "k"), InvalidNamespaceError),
        (GetOp((1,), "k"), InvalidNamespaceError),  # type: ignore[arg-type]
        (SearchOp(("a\x00",)), InvalidNamespaceError),
        (PutOp(("a",), "k", {"v": "\x00"}), ValueError),
        (PutOp(("a",), "k", {"v": float("nan")}), ValueError),
        (PutOp(("a",), "k", {"v": object()}), ValueError),
        (PutOp(("a",), "k\ud800", {}), ValueError),
        (PutOp(("a",), "k" * 1025, {}), ValueError),
        (SearchOp((), filter={"n": {"$near": 1}}), ValueError),
        (SearchOp((), limit=-1), ValueError),
        (ListNamespacesOp(max_depth=0), ValueError),
    ],
)
async def test_what_cannot_be_stored_is_refused_before_it_reaches_a_batch(
    store: GraphStore, op: Any, error: type[Exception]
) -> None:
    good = store.aput(("fine",), "k", {"n": 1})
    with pytest.raises(error):
        await store.abatch([op])
    await good
    assert await store.aget(("fine",), "k") is not None


async def test_ttl_and_index_are_refused_by_name(store: GraphStore) -> None:
    with pytest.raises(NotImplementedError, match="TTL"):
        await store.aput(("a",), "k", {}, ttl=1)
    with pytest.raises(NotImplementedError, match="index"):
        await store.aput(("a",), "k", {}, index=["text"])
    await store.aput(("a",), "k", {}, index=False)  # no vectors is what it does anyway


async def test_two_prefixes_must_both_match(store: GraphStore) -> None:
    for namespace in (("a", "x"), ("a", "y"), ("b", "x")):
        await store.aput(namespace, "k", {})

    async def matching(*paths: tuple[str, ...]) -> Any:
        conditions = tuple(MatchCondition("prefix", path) for path in paths)
        return (await store.abatch([ListNamespacesOp(match_conditions=conditions)]))[0]

    assert await matching(("a",), ("*", "x")) == [("a", "x")]
    assert await matching(("a",), ("b",)) == []


async def test_one_request_that_postgres_refuses_does_not_fail_its_neighbours(store: GraphStore, pool: Any) -> None:
    await pool.execute("ALTER TABLE heddle.item ADD CONSTRAINT no_poison CHECK (key <> 'poison')")
    try:
        outcomes = await asyncio.gather(
            store.aput(("a",), "good", {"n": 1}),
            store.aput(("a",), "poison", {"n": 1}),
            store.aput(("a",), "better", {"n": 1}),
            return_exceptions=True,
        )
    finally:
        await pool.execute("ALTER TABLE heddle.item DROP CONSTRAINT no_poison")
    assert [type(outcome).__name__ for outcome in outcomes] == ["NoneType", "CheckViolationError", "NoneType"]
    assert {item.key for item in await store.asearch(("a",))} == {"good", "better"}


async def test_a_database_that_is_away_is_unavailable_to_every_caller(tmp_path: Path) -> None:
    async with pool_on(Dsn(host=str(tmp_path))) as pool, GraphStore(pool) as store:
        outcomes = await asyncio.gather(store.aget(("a",), "k"), store.aput(("a",), "k", {}), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]


async def test_a_cancelled_caller_leaves_the_others_alone(store: GraphStore) -> None:
    gone = asyncio.ensure_future(store.aput(("a",), "gone", {}))
    stays = asyncio.ensure_future(store.aput(("a",), "stays", {}))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert await store.aget(("a",), "stays") is not None
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_batches_that_write_and_delete_each_others_items_do_not_deadlock(store: GraphStore, pool: Any) -> None:
    async with GraphStore(pool) as other:
        for _ in range(60):
            await store.abatch([PutOp(("x",), "a", {}), PutOp(("x",), "b", {})])
            await asyncio.gather(
                store.abatch([PutOp(("x",), "b", {"n": 1}), PutOp(("x",), "a", None)]),
                other.abatch([PutOp(("x",), "a", {"n": 1}), PutOp(("x",), "b", None)]),
            )


async def test_a_closed_store_says_so_and_closing_twice_is_harmless(pool: Any) -> None:
    store = GraphStore(pool)
    with pytest.raises(RuntimeError, match="closed"):
        await store.aget(("a",), "k")
    async with store:
        late = asyncio.ensure_future(store.aput(("a",), "k", {}))
        await asyncio.sleep(0)
    await late  # what was under way is answered
    await store.__aexit__(None, None, None)
    with pytest.raises(RuntimeError, match="closed"):
        await store.aget(("a",), "k")

"""Which entries load, how factories are called, and what is said when something is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from structlog.testing import capture_logs

from heddle_core.domain.errors import GraphFailed, GraphLoadError
from heddle_core.domain.ids import new_thread_id
from heddle_core.ports.graph_runtime import Access
from heddle_server.graphs.loader import GraphLoader
from heddle_server.graphs.sources import GraphSpec
from tests.support.graphs import samples
from tests.support.graphs.worlds import GraphWorld, a_claim


@pytest.fixture
def world() -> GraphWorld:
    samples.calls.clear()
    return GraphWorld()


def loader(base: Path, path: str, *, dependencies: tuple[str, ...] = ()) -> GraphLoader:
    return GraphLoader(
        [GraphSpec(graph_id="g", path=path)], base, dependencies=dependencies, checkpointer=InMemorySaver()
    )


GRAPH = "from tests.support.graphs.samples import echo as graph\n"


async def test_a_compiled_graph_and_a_builder_are_prepared_once(world: GraphWorld) -> None:
    for graph_id in ("echo", "two"):
        graph = world.loader.static(graph_id)
        assert isinstance(graph, Pregel)
        assert graph is world.loader.static(graph_id)
        assert (graph.checkpointer, graph.store, graph.name) == (world.saver, world.store, graph_id)
    assert samples.echo.checkpointer is None  # the guest's own object is left alone
    assert isinstance(samples.two, StateGraph)


async def test_a_checkpointer_in_the_graph_is_ignored_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from langgraph.checkpoint.memory import InMemorySaver\n"
        "from tests.support.graphs.samples import two\n"
        "graph = two.compile(checkpointer=InMemorySaver())\n"
    )
    found = loader(tmp_path, "./mine.py:graph")
    with capture_logs() as logs:
        graph = found.static("g")

    assert [entry["event"] for entry in logs] == ["graph_checkpointer_ignored"]
    assert logs[0]["graph_id"] == "g"
    assert graph is not None
    assert graph.checkpointer is found._checkpointer


@pytest.mark.parametrize(
    ("factory", "during_run", "during_read"),
    [
        ("plain_factory", [("plain", None)], [("plain", None)]),
        ("config_factory", [("config", "sweet")], [("config", "sour")]),
        ("runtime_factory", [("threads.create_run", "large")], [("threads.read", None)]),
        ("async_context_factory", [("enter", None), ("leave", None)], [("enter", None), ("leave", None)]),
    ],
)
async def test_a_factory_is_called_for_every_access(
    world: GraphWorld, factory: str, during_run: list[Any], during_read: list[Any]
) -> None:
    thread = new_thread_id()
    config = {"configurable": {"flavour": "sweet"}}
    context = {"model": "large"}
    claim = a_claim(factory, {"log": []}, thread_id=thread, config=config, context=context)
    assert await world.run(claim) == {"log": ["echo"]}
    assert samples.calls == during_run

    samples.calls.clear()
    from tests.support.graphs.worlds import a_thread

    await world.states.get(a_thread(factory, thread, configurable={"flavour": "sour"}), None, subgraphs=False)
    assert samples.calls == during_read


async def test_a_sync_context_manager_sees_the_error_and_cannot_hide_it(world: GraphWorld) -> None:
    with pytest.raises(GraphFailed, match="boom"):
        await world.run(a_claim("context_factory", {"log": ["value"]}, config={"configurable": {"flavour": "x"}}))
    assert samples.calls == [("enter", "x"), ("hid", None), ("leave", None)]


async def test_a_factory_graph_gets_our_checkpointer(world: GraphWorld) -> None:
    async with world.loader.get_graph("config_factory", {"configurable": {}}, Access.READ) as graph:
        assert (graph.checkpointer, graph.name) == (world.saver, "config_factory")
    async with world.loader.get_graph_for_validation("plain_factory") as graph:
        assert set(graph.nodes) == {"__start__", "echo_node"}


@pytest.mark.parametrize(
    ("graph_id", "text"),
    [
        ("broken_factory", "graph 'broken_factory': its factory failed: SystemExit: no"),
        ("wrong_factory", "its factory made str, not a graph"),
        ("odd_factory", "the factory asks for database, cache"),
        ("not_a_graph", "samples.py:not_a_graph is int, not a graph"),
        ("missing", "graph 'missing' is not in the configuration"),
    ],
)
async def test_what_is_no_graph_is_refused_by_name(world: GraphWorld, graph_id: str, text: str) -> None:
    with pytest.raises(GraphLoadError) as refused:
        async with world.loader.get_graph(graph_id, {"configurable": {}}, Access.READ):
            pass
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("source", "path", "texts"),
    [
        (None, "./absent.py:graph", ["graph 'g'", "no such file", "absent.py"]),
        (None, "nothing", ["'nothing' is not an entry", "path/to/file.py:variable"]),
        (None, "no.such.module:graph", ["No module named 'no'", "`dependencies`"]),
        ("x = 1\n", "./m_names.py:graph", ["no variable 'graph'", "it has x"]),
        ("x = 1\nraise ValueError('bad')\n", "./m_raise.py:graph", ["m_raise.py:2", "ValueError: bad"]),
        ("def f(:\n", "./m_syntax.py:graph", ["m_syntax.py:1", "SyntaxError"]),
        ("import sys\nsys.exit(1)\n", "./m_exit.py:graph", ["m_exit.py:2", "must not exit"]),
        (
            "import no_such_thing\n",
            "./m_import.py:graph",
            ["m_import.py:1", "install the package", "no_such_thing"],
        ),
    ],
)
def test_a_load_error_names_the_graph_the_place_and_the_fix(
    tmp_path: Path, source: str | None, path: str, texts: list[str]
) -> None:
    if source is not None:
        (tmp_path / path.removeprefix("./").partition(":")[0]).write_text(source)
    with pytest.raises(GraphLoadError) as refused:
        loader(tmp_path, path).load_all()
    for text in ["graph 'g'", *texts]:
        assert text in refused.value.message


def test_a_file_in_a_package_may_import_its_neighbours(tmp_path: Path) -> None:
    package = tmp_path / "src" / "neighbourly"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "parts.py").write_text(GRAPH)
    (package / "agent.py").write_text("from .parts import graph\n")

    found = loader(tmp_path, "./src/neighbourly/agent.py:graph", dependencies=(".",))
    found.load_all()
    assert "src.neighbourly.agent" in sys.modules or "neighbourly.agent" in sys.modules


def test_a_file_whose_name_another_module_has_is_loaded_beside_it(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(GRAPH + "mine = True\n")

    assert loader(tmp_path, "./json.py:graph").static("g") is not None
    assert not hasattr(sys.modules["json"], "mine")


def test_a_module_entry_is_found_on_the_dependencies(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "dotted_entry.py").write_text(GRAPH)

    assert loader(tmp_path, "dotted_entry:graph", dependencies=("./lib",)).static("g") is not None


def test_a_dependency_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GraphLoadError, match=r"no such folder.*absent"):
        loader(tmp_path, "a:b", dependencies=("./absent",))


def test_graphs_are_listed_with_their_descriptions(tmp_path: Path) -> None:
    specs = [GraphSpec(graph_id="a", path="x:y", description="what it does"), GraphSpec(graph_id="b", path="x:y")]
    found = GraphLoader(specs, tmp_path, checkpointer=InMemorySaver())

    assert {name: info.description for name, info in found.graphs.items()} == {"a": "what it does", "b": None}

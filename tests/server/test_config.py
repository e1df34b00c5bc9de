"""Project files: what is read, what is refused by name, and how clearly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heddle_server import config
from heddle_server.config import NOT_YET, ConfigError, Cors, HeaderRule, ProjectConfig


def write(folder: Path, content: Any, name: str = "agent.json") -> Path:
    (folder / "graph.py").write_text("graph = None\n")
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def config_with(folder: Path, **keys: Any) -> ProjectConfig:
    return ProjectConfig.load(write(folder, {"graphs": {"one": "./graph.py:graph"}, **keys}))


def refusal(folder: Path, content: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        ProjectConfig.load(write(folder, content))
    assert refused.value.fix
    return refused.value.message


def nested(key: str, value: Any) -> dict[str, Any]:
    outer, _, inner = key.partition(".")
    return {outer: {inner: value} if inner else value}


def test_graphs_are_files_or_modules_with_or_without_a_description(tmp_path: Path) -> None:
    graphs = config_with(
        tmp_path,
        graphs={
            "file": "./graph.py:graph",
            "plain": "graph.py:graph",
            "module": "package.module:make_graph",
            "told": {"path": "./graph.py:graph", "description": "does things"},
        },
    ).graphs
    assert graphs["file"].path == graphs["plain"].path == tmp_path / "graph.py"
    assert (graphs["module"].module, graphs["module"].variable) == ("package.module", "make_graph")
    assert graphs["told"].description == "does things"
    assert graphs["file"].source == f"{tmp_path / 'graph.py'}:graph"


def test_the_other_spelling_of_the_file_is_found_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no agent.json or langgraph.json"):
        ProjectConfig.load()
    write(tmp_path, {"graphs": {"one": "./graph.py:graph"}}, "langgraph.json")
    assert ProjectConfig.load().path.name == "langgraph.json"
    write(tmp_path, {"graphs": {"one": "./graph.py:graph"}})
    assert ProjectConfig.load().path.name == "agent.json"


@pytest.mark.parametrize(
    ("graphs", "said"),
    [
        ({}, "names no graph"),
        ([], "graphs: must be an object"),
        ({"one": 5}, "graphs.one: must say where"),
        ({"one": "./graph.py"}, "graphs.one: must say where"),
        ({"one": "./graph.py:"}, "does not name a variable"),
        ({"one": "./graph.py:a b"}, "does not name a variable"),
        ({"one": "./missing.py:graph"}, "there is no file"),
        ({"one": "./graph.ts:graph"}, "JavaScript graphs are not supported"),
        ({"one": {"path": "./graph.py:graph", "description": 5}}, "graphs.one.description: must be a text"),
        ({"": "./graph.py:graph"}, "a graph needs a name"),
    ],
)
def test_a_wrong_graph_entry_is_named_by_its_key(tmp_path: Path, graphs: Any, said: str) -> None:
    message = refusal(tmp_path, {"graphs": graphs})
    assert said in message
    assert str(tmp_path / "agent.json") in message


def test_broken_json_is_located(tmp_path: Path) -> None:
    assert "line 2, column 13" in refusal(tmp_path, '{\n  "graphs": }\n')


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    text = '{"graphs": {"one": "./graph.py:graph", "one": "./graph.py:other"}}'
    assert "one: appears twice" in refusal(tmp_path, text)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        ProjectConfig.load(tmp_path / "agent.json")


@pytest.mark.parametrize("key", sorted(NOT_YET))
def test_what_this_version_does_not_do_is_refused_by_name_and_null_is_absence(tmp_path: Path, key: str) -> None:
    message = refusal(tmp_path, {"graphs": {"one": "./graph.py:graph"}, **nested(key, {"path": "x"})})
    assert f"{key}: " in message
    assert "not in this version" in message
    assert config_with(tmp_path, **nested(key, None)).graphs


def test_an_unknown_key_is_a_warning_that_names_it(tmp_path: Path) -> None:
    loaded = config_with(tmp_path, grahps={}, http={"corss": {}, "cors": {"allow_orgins": []}}, store={"idnex": 1})
    named = [warning.split(": ")[1] for warning in loaded.warnings]
    assert named == ["grahps", "http.cors.allow_orgins", "http.corss", "store.idnex"]


def test_keys_that_only_matter_to_a_build_are_taken_in_silence(tmp_path: Path) -> None:
    loaded = config_with(tmp_path, python_version="3.12", dockerfile_lines=[], pip_config_file=None)
    assert loaded.warnings == ()


def test_surfaces_that_are_not_there_may_be_switched_off_and_others_may_not(tmp_path: Path) -> None:
    assert config_with(tmp_path, http={"disable_mcp": True, "disable_a2a": True, "disable_store": False}).warnings == ()
    message = refusal(tmp_path, {"graphs": {"one": "./graph.py:graph"}, "http": {"disable_store": True}})
    assert "http.disable_store" in message


def test_local_dependencies_are_folders_and_others_are_packages(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    loaded = config_with(tmp_path, dependencies=[".", "./lib", "langchain-openai"])
    assert loaded.import_paths == (tmp_path, tmp_path / "lib")
    assert loaded.packages == ("langchain-openai",)
    message = refusal(tmp_path, {"graphs": {"one": "./graph.py:graph"}, "dependencies": ["./gone"]})
    assert "dependencies[0]" in message


def test_env_is_a_map_or_a_file(tmp_path: Path) -> None:
    assert config_with(tmp_path, env={"A": "1", "B": 2}).env == {"A": "1", "B": "2"}
    (tmp_path / "vars").write_text("# comment\nA=1\nexport B='two words'\nEMPTY=\nNAME_ONLY\n")
    loaded = config_with(tmp_path, env="vars")
    assert loaded.env == {"A": "1", "B": "two words", "EMPTY": ""}
    assert loaded.env_file == tmp_path / "vars"


def test_a_missing_env_file_is_fine_only_under_its_usual_name(tmp_path: Path) -> None:
    assert config_with(tmp_path, env=".env").env == {}
    assert "there is no file" in refusal(tmp_path, {"graphs": {"one": "./graph.py:graph"}, "env": "prod.env"})
    assert "env.A" in refusal(tmp_path, {"graphs": {"one": "./graph.py:graph"}, "env": {"A": ["x"]}})


def test_cors_replaces_the_default_and_is_checked(tmp_path: Path) -> None:
    cors = {
        "allow_origins": ["https://a.example"],
        "allow_credentials": True,
        "max_age": 5,
        "allow_origin_regex": "a.*",
    }
    assert config_with(tmp_path, http={"cors": cors}).http.cors == Cors(
        allow_origins=("https://a.example",), allow_credentials=True, max_age=5, allow_origin_regex="a.*"
    )
    assert config_with(tmp_path).http.cors is None
    for wrong in ({"allow_origins": "*"}, {"allow_credentials": "yes"}, {"max_age": True}, {"allow_origin_regex": "("}):
        assert f"http.cors.{next(iter(wrong))}" in refusal(
            tmp_path, {"graphs": {"one": "./graph.py:graph"}, "http": {"cors": wrong}}
        )


@pytest.mark.parametrize(
    ("includes", "excludes", "name", "allowed"),
    [
        (["x-tenant-*"], [], "X-Tenant-Foo", True),
        (["x-*"], ["x-secret"], "x-secret", False),
        (["*"], [], "authorization", False),
        (["*"], [], "x-api-key", False),
        (["authorization"], [], "Authorization", True),
        (["authorization"], ["auth*"], "Authorization", False),
        (["x-tenant-foo"], [], "baggage", False),
    ],
)
def test_headers_reach_runs_by_rule_and_credentials_only_by_name(
    tmp_path: Path, includes: list[str], excludes: list[str], name: str, allowed: bool
) -> None:
    rule = config_with(
        tmp_path, http={"configurable_headers": {"includes": includes, "excludes": excludes}}
    ).http.configurable_headers
    assert rule.allows(name) is allowed


def test_without_a_rule_only_tracing_headers_pass() -> None:
    rule = HeaderRule()
    assert rule.allows("langsmith-trace")
    assert rule.allows("baggage")
    assert not rule.allows("x-anything")


def test_every_key_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "config.md").read_text()
    http = {f"http.{key}" for key in config._ABSENT | config._ALWAYS_ON} | {"http.cors", "http.configurable_headers"}
    known = {"graphs", "dependencies", "env"} | http | set(NOT_YET) | config.BUILD_ONLY | set(Cors.__dataclass_fields__)
    assert {key for key in known if f"`{key}`" not in page} == set()

"""Health, metrics and documentation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from heddle_core.domain.errors import Unavailable
from heddle_server.http.options import Figures, Health, HttpOptions, Readiness
from tests.server.http.test_runs import body
from tests.server.http.world import World, serving


@pytest.mark.parametrize("path", ["/", "/ok", "/live", "/healthz"])
async def test_the_process_answers(world: World, path: str) -> None:
    answer = await world.client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"ok": True})


@pytest.mark.parametrize(
    ("health", "status"),
    [(Health.UP, 200), (Health.DEGRADED, 200), (Health.DRAINING, 503), (Health.DOWN, 503)],
)
async def test_readiness_names_what_is_down_and_says_why_only_to_this_machine(health: Health, status: int) -> None:
    async def probe() -> Readiness:
        return Readiness(health=health, problems={"database": "refuses connections at /secret/socket"})

    async with serving(HttpOptions(readiness=probe)) as world:
        for path in ("/ready", "/readyz", "/health"):
            near = await world.client.get(path)
            far = await world.client.get(path, headers={"x-forwarded-for": "203.0.113.9"})
            assert near.status_code == far.status_code == status
            assert near.json() == {"status": health, "checks": {"database": "refuses connections at /secret/socket"}}
            assert far.json() == {"status": health, "checks": {"database": "not well"}}


async def test_info_gives_the_api_level_our_version_and_what_is_off() -> None:
    async with serving(
        HttpOptions(info=lambda: {"flags": {"crons": False, "extra": True}, "database": "embedded"})
    ) as world:
        info = (await world.client.get("/info")).json()
    assert info["version"] == "0.16.7"
    assert info["heddle_version"][0].isdigit()
    assert info["langgraph_py_version"].startswith("1.")
    assert info["flags"]["assistants"] is True
    assert info["flags"]["crons"] is False
    assert info["flags"]["extra"] is True
    assert info["host"]["kind"] == "self-hosted"
    assert info["database"] == "embedded"


FIGURES = Figures(pending_runs=3, running_runs=2, longest_wait_seconds=1.5, slots=10, slots_taken=2)


async def test_metrics_count_requests_by_route_and_show_the_queue() -> None:
    async def figures() -> Figures:
        return FIGURES

    async with serving(HttpOptions(figures=figures)) as world:
        await world.client.post(f"/threads/{world.a_thread()}/runs", json=body())
        await world.client.get("/made/up/by/a/client")
        answer = await world.client.get("/metrics")
        families = {f.name: f for f in text_string_to_metric_families(answer.text)}
        as_json = (await world.client.get("/metrics?format=json")).json()

    assert answer.headers["content-type"].startswith("text/plain")
    counted = {
        (s.labels["method"], s.labels["path"], s.labels["status"]): s.value
        for s in families["lg_api_http_requests"].samples
        if s.name.endswith("_total")
    }
    assert counted["POST", "/threads/{thread_id}/runs", "200"] == 1
    assert counted["GET", "unmatched", "404"] == 1
    assert families["lg_api_num_pending_runs"].samples[0].value == 3
    assert families["lg_api_workers_available"].samples[0].value == 8
    assert as_json["queue"] == {"n_pending": 3, "n_running": 2, "pending_runs_wait_time_max_secs": 1.5}
    assert as_json["workers"] == {"max": 10, "active": 2, "available": 8}
    assert any(row["labels"]["path"] == "/metrics" for row in as_json["api"]["http_requests_total"])


async def test_metrics_leave_out_the_queue_when_the_database_is_away() -> None:
    async def figures() -> Figures:
        raise Unavailable

    async with serving(HttpOptions(figures=figures)) as world:
        text = await world.client.get("/metrics")
        as_json = await world.client.get("/metrics?format=json")
    assert text.status_code == 200
    assert "lg_api_num_pending_runs" not in text.text
    assert as_json.json()["queue"] is None


async def test_the_documentation_page_needs_no_network(world: World) -> None:
    page = await world.client.get("/docs")
    assert "text/html" in page.headers["content-type"]
    assert "http://" not in page.text
    assert "https://" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"docs/{name}" in page.text
        assert len((await world.client.get(f"/docs/{name}")).content) > 10_000
    assert (await world.client.get("/docs/../app.py")).status_code == 404
    assert (await world.client.get("/docs/index.html")).status_code == 404


async def test_the_description_is_complete_and_its_errors_have_one_schema(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    run = document["paths"]["/threads/{thread_id}/runs"]["post"]
    assert run["parameters"][0]["schema"] == {"type": "string", "format": "uuid", "title": "Thread Id"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            for status, answer in operation["responses"].items():
                if status >= "400" and not (status == "503" and path in ("/ready", "/readyz", "/health")):
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Error"}, (method, path, status)
            assert "422" in operation["responses"]
    assert "413" in run["responses"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_unions_in_the_description_have_names(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    for name, schema in document["components"]["schemas"].items():
        for field, part in schema.get("properties", {}).items():
            members = [m for m in part.get("anyOf", ()) if m != {"type": "null"}]
            assert len(members) < 2, (name, field)
    fields = document["components"]["schemas"]["RunCreate"]["properties"]
    assert fields["assistant_id"] == {"$ref": "#/components/schemas/AssistantRef"}
    assert document["components"]["schemas"]["AssistantRef"]["anyOf"][1]["enum"] == ["agent"]
    assert {"$ref": "#/components/schemas/StreamModes"} in fields["stream_mode"]["anyOf"]
    assert {"type": "null"} in fields["metadata"]["anyOf"]


async def test_under_a_mount_prefix_the_description_names_it() -> None:
    async with serving(replace(HttpOptions(), mount_prefix="/x")) as world:
        assert (await world.client.get("/x/openapi.json")).json()["servers"] == [{"url": "/x"}]

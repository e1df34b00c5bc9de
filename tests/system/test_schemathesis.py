"""The API description against the server: whatever the description allows or forbids, the answer is one it names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.server import ROOT, Server

TAGS = ("system", "store", "assistants", "threads", "runs", "stateless runs")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)

BUDGET_SECONDS = 240
"""For one tag, on a busy machine; an answer that never ends is a failure long before."""


@pytest.mark.parametrize("tag", TAGS)
def test_every_answer_is_one_that_the_description_names(server: Server, tag: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{server.url}/openapi.json", "--include-tag", tag),
            *("--phases", "coverage,fuzzing", "--max-examples", "5", "--generation-deterministic"),
            *("--checks", ",".join(CHECKS), "--request-timeout", "20", "--warnings", "off", "--no-color"),
        ],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.system.fuzzing",
            "HEDDLE_FUZZED_URL": server.url,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=BUDGET_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_operation_has_a_tag_that_is_tried(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").raise_for_status().json()
    untried = {
        f"{method} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if not set(operation.get("tags", ())) & set(TAGS)
    }
    assert untried == set()

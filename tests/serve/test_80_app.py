"""The application without a network: what a fault of ours looks like to a client."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any

import pytest
from support.served import form

from esccs_edge.any_task import open_model
from esccs_edge.errors import BackendError, InputError
from esccs_edge.serve.limits import Limits
from esccs_edge.serve.service import Service

if any(find_spec(name) is None for name in ("fastapi", "multipart")):
    pytest.skip("serving needs the extra serve", allow_module_level=True)

from esccs_edge.serve.app import make_app  # noqa: E402 - after the skip


def asked(service: Service, path: str, **files: bytes) -> tuple[int, Any]:
    """Status and document of one POST, through the application alone."""
    body, kind = form(**files)
    sent: list[dict] = []
    given = [{"type": "http.request", "body": body, "more_body": False}]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [(b"content-type", kind.encode()), (b"host", b"here")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip

    async def receive():
        return given.pop() if given else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    try:
        asyncio.run(make_app(service)(scope, receive, send))
    except ZeroDivisionError:
        pass  # it goes on to the log of the server
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture
def service(bundle):
    model = open_model(bundle, "cpu")
    found = Service(model, bundle, Limits())
    yield found
    found.close()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(ZeroDivisionError("secret"), 500, "fault"), (BackendError("it broke"), 500, "backend")],
)
def test_a_fault_is_told_without_its_insides_and_counted(service, monkeypatch, error, status, code):
    answer: Future = Future()
    answer.set_exception(error)
    monkeypatch.setattr(service, "answer", lambda *_: answer)
    found, document = asked(service, "/v1/classify", sar=b"x")
    assert (found, document["error"]["code"]) == (status, code)
    assert "secret" not in json.dumps(document)
    text = service.metrics.text("m", service.model.stats(), {})
    assert sum(int(line[-1]) for line in text.splitlines() if "request_failure{" in line) == 1


def test_a_bundle_of_another_task_is_refused(bundle, monkeypatch):
    with open_model(bundle, "cpu") as model:
        monkeypatch.setattr(model, "manifest", model.manifest.evolve(name="other"))
        monkeypatch.setattr("esccs_edge.serve.service.TASKS", ("another",))
        with pytest.raises(InputError, match="expected one of another"):
            Service(model, bundle, Limits())

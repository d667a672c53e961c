"""The service as clients meet it: a real server on this machine, asked over the wire."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support import tiny
from support.cli_parts import refused, run, run_json
from support.served import Served, form, npy, served

if any(find_spec(name) is None for name in ("fastapi", "uvicorn", "multipart")):
    pytest.skip("serving needs the extra serve", allow_module_level=True)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def service(model, tmp_path_factory):
    with served(model.folder, tmp_path_factory.mktemp("service"), "--limit", "pair_mb=1") as found:
        yield found


@pytest.fixture
def files(model):
    optical, sar = tiny.raw_pair(model.manifest)
    return {"optical": npy(optical), "sar": npy(sar)}


def error_of(answer) -> dict:
    """The document of a refusal."""
    status, document, _ = answer
    assert status >= 400 and list(document) == ["error"]
    assert set(document["error"]) == {"code", "message", "found", "expected", "hint"}
    return document["error"]


def test_an_uploaded_pair_is_answered_as_on_the_command_line(service, files, model, tmp_path):
    status, answer, headers = service.post("/v1/classify", **files)
    assert status == 200 and headers["cache-control"] == "no-store"
    for name, content in files.items():
        (tmp_path / f"{name}.npy").write_bytes(content)
    here = run_json(
        "classify", tmp_path / "optical.npy", tmp_path / "sar.npy", "--bundle", model.folder
    )
    assert answer["label"] == here["label"]
    assert answer["probabilities"] == pytest.approx(here["probabilities"], abs=1e-3)
    assert set(answer) == set(here)


def test_a_geotiff_is_read_and_a_modality_may_be_absent(service, model, tmp_path):
    from support.rasters import write_raster

    optical, _ = tiny.raw_pair(model.manifest)
    write_raster(tmp_path / "o.tif", optical)
    status, answer, _ = service.post("/v1/classify", optical=(tmp_path / "o.tif").read_bytes())
    assert status == 200 and answer["gate"] == {"optical": 1.0, "sar": 0.0}
    assert answer["flags"] == ["MODALITY_MISSING"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda files: {}, "input", "no file is given"),
        (lambda files: {"optical": b"GIF89a..."}, "input", "expected a GeoTIFF, PNG or .npy"),
        (lambda files: {"sar": npy(np.zeros((2, 8, 8), np.float32))}, "input", "8"),
        (lambda files: {"sar": npy(np.zeros((3, 16, 16), np.float32))}, "raster", "sar.npy has"),
        (lambda files: {"optical": files["optical"][:-9]}, "raster", "cannot read optical.npy"),
        (lambda files: {"optical": b"II*\x00 no raster"}, "raster", "cannot read optical.tif"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_words_without_our_paths(
    service, files, change, code, words
):
    answer = service.post("/v1/classify", **change(files))
    error = error_of(answer)
    assert (answer[0], error["code"]) == (422, code)
    assert words in error["message"] and "/tmp" not in json.dumps(error)


def test_too_much_is_refused_before_it_is_read(service):
    declared = service.ask("POST", "/v1/classify", b"", content_length="1000001")
    assert declared[0] == 413 and "expected at most 1 MB" in error_of(declared)["message"]
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as wire:
        wire.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        start = b'--x\r\nContent-Disposition: form-data; name="sar"; filename="s"\r\n\r\n'
        wire.sendall(b"%x\r\n" % len(start) + start + b"\r\n")
        chunk = b"%x\r\n" % 65536 + bytes(65536) + b"\r\n"
        for _ in range(17):  # 1.1 MB, of a length that nobody declared
            wire.sendall(chunk)
        assert wire.recv(64).startswith(b"HTTP/1.1 413 ")


def test_wrong_addresses_methods_and_numbers_have_the_same_form(service, files):
    assert error_of(service.ask("GET", "/nothing"))["code"] == "usage"
    assert service.ask("GET", "/v1/classify")[0] == 405
    body, kind = form(**files)
    wrong = service.ask("POST", "/v1/classify?deadline_ms=soon", body, content_type=kind)
    assert wrong[0] == 422 and "deadline_ms" in error_of(wrong)["message"]
    assert error_of(service.ask("POST", "/v1/classify", b"x" * 9))["code"] in ("usage", "input")
    assert service.ask("GET", "/v1/scenes/../../etc/passwd")[0] == 404


def test_a_page_elsewhere_cannot_ask_under_a_name_of_its_own(service):
    assert service.ask("GET", "/v1/model", Host="evil.example")[0] == 421
    assert service.ask("GET", "/v1/model", Host="localhost:1")[0] == 200


def test_health_readiness_and_metrics_follow_what_happened(service, files):
    assert service.ask("GET", "/healthz")[1] == {"status": "ok"}
    assert service.ask("GET", "/readyz")[1] == {"status": "ready"}

    def counted(name: str, more: str = "") -> float:
        status, text, headers = service.ask("GET", "/metrics")
        assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
        found = re.search(rf"^{name}{{[^}}]*{more}[^}}]*}} (\S+)$", text.decode(), re.MULTILINE)
        assert found is not None
        return float(found[1])

    histogram = "nv_inference_first_response_histogram_ms"
    names = ("nv_inference_request_success", f"{histogram}_count", f"{histogram}_bucket")
    before = [counted(name, r'le="\+Inf"' if "bucket" in name else "") for name in names]
    failed = counted("nv_inference_request_failure", "OTHER")
    service.post("/v1/classify", **files)
    service.post("/v1/classify", optical=b"nothing")
    after = [counted(name, r'le="\+Inf"' if "bucket" in name else "") for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    assert counted("nv_inference_request_failure", "OTHER") == failed + 1


def test_the_openapi_document_names_what_there_is(service):
    document = service.ask("GET", "/openapi.json")[1]
    assert {"/v1/classify", "/v1/scenes", "/v1/model", "/metrics"} <= set(document["paths"])
    schema = document["components"]["schemas"]["PredictionDocument"]
    assert set(schema["properties"]) == {"label", "confidence", "probabilities", "gate", "flags"}
    responses = document["paths"]["/v1/classify"]["post"]["responses"]
    assert {"200", "413", "422", "429", "504"} <= set(responses)


def test_a_scene_is_mapped_with_progress_and_can_be_removed(service, model, tmp_path):
    from support.rasters import write_raster

    optical, sar = (np.tile(pixels, (1, 3, 3)) for pixels in tiny.raw_pair(model.manifest))
    write_raster(tmp_path / "o.tif", optical)
    write_raster(tmp_path / "s.tif", sar)
    status, job, _ = service.post(
        "/v1/scenes",
        optical=(tmp_path / "o.tif").read_bytes(),
        sar=(tmp_path / "s.tif").read_bytes(),
    )
    assert status == 202
    job = ended(service, job)
    assert job["state"] == "done", job
    assert job["patches_done"] == job["patches"] == job["result"]["patches"] > 1
    here = run_json(
        "map", tmp_path / "o.tif", tmp_path / "s.tif", tmp_path / "map.tif", "--bundle",
        model.folder,
    )  # fmt: skip
    assert job["result"]["class_shares"] == pytest.approx(here["class_shares"])
    assert job["result"]["class_map"] == "map.tif"
    place = f"/v1/scenes/{job['id']}"
    assert service.ask("GET", f"{place}/map.tif")[1] == (tmp_path / "map.tif").read_bytes()
    assert service.ask("GET", f"{place}/optical.tif")[0] == 404
    assert service.ask("DELETE", place)[0] == 204
    assert service.ask("GET", place)[0] == service.ask("GET", f"{place}/map.tif")[0] == 404


def test_a_scene_that_cannot_be_mapped_says_why(service):
    _, job, _ = service.post("/v1/scenes", optical=b"II*\x00 no raster")
    job = ended(service, job)
    assert job["state"] == "failed" and "optical.tif" in job["error"]["message"]
    assert "/" not in job["error"]["message"].split("optical.tif")[0]


def ended(service: Served, job: dict) -> dict:
    """The scene once it has ended."""
    until = time.monotonic() + 60
    while job["state"] in ("waiting", "running") and time.monotonic() < until:
        time.sleep(0.05)
        job = service.ask("GET", f"/v1/scenes/{job['id']}")[1]
    return job


def test_overload_is_told_at_once_and_nothing_is_lost(model, files, tmp_path):
    with served(model.folder, tmp_path, "--limit", "open_requests=2") as service:
        with ThreadPoolExecutor(16) as clients:
            answers = list(clients.map(lambda _: service.post("/v1/classify", **files), range(96)))
        seen = Counter(status for status, _, _ in answers)
        assert set(seen) == {200, 429} and sum(seen.values()) == 96
        busy = next(answer for answer in answers if answer[0] == 429)
        assert busy[2]["retry-after"] == "1" and error_of(busy)["code"] == "overloaded"
        labels = {document["label"] for status, document, _ in answers if status == 200}
        assert len(labels) == 1
        assert service.ask("GET", "/readyz")[0] == 200
        text = service.ask("GET", "/metrics")[1].decode()
        assert f'reason="REJECTED"}} {seen[429]}' in text


def test_a_deadline_that_passed_is_told(service, files):
    body, kind = form(**files)
    late = service.ask("POST", "/v1/classify?deadline_ms=1e-6", body, content_type=kind)
    assert late[0] == 504 and error_of(late)["code"] == "deadline"


def test_an_upload_that_stalls_is_ended(model, files, tmp_path):
    with served(model.folder, tmp_path, "--limit", "upload_s=0.3") as service:
        with half_sent(service, files) as (wire, _):
            assert wire.recv(64).startswith(b"HTTP/1.1 408 ")
        assert service.post("/v1/classify", **files)[0] == 200


def test_an_order_to_end_lets_a_request_finish_and_leaves_no_file(model, files, tmp_path):
    with served(model.folder, tmp_path) as service:
        assert service.post("/v1/classify", **files)[0] == 200
        with half_sent(service, files) as (wire, rest):
            service.process.terminate()
            time.sleep(0.5)
            assert service.process.poll() is None  # it waits for the other half
            wire.sendall(rest)
            assert wire.recv(64).startswith(b"HTTP/1.1 200 ")
        assert service.process.wait(30) == 0
        assert service.process.stdout is not None
        assert re.match(r"\d+ pairs answered, 0 failed, 0 refused", service.process.stdout.read())
        with pytest.raises(ConnectionRefusedError):
            service.post("/v1/classify", **files)
    assert not list((tmp_path / "cwd").iterdir()) and not list((tmp_path / "tmp").iterdir())


class half_sent:  # noqa: N801 - reads as a function
    """A connection over which half of a request went."""

    def __init__(self, service: Served, files: dict) -> None:
        body, kind = form(**files)
        self._rest = body[len(body) // 2 :]
        self._wire = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        head = (
            f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._wire.sendall(head.encode() + body[: len(body) // 2])

    def __enter__(self) -> tuple[socket.socket, bytes]:
        time.sleep(0.1)
        return self._wire, self._rest

    def __exit__(self, *_: object) -> None:
        self._wire.close()


def test_a_port_that_is_taken_and_wrong_limits_are_refused(service, model):
    words = ("serve", "--bundle", model.folder, "--port", service.port)
    assert "cannot listen" in refused(run(*words))
    for limit in ("nonsense=1", "queue=many"):
        assert run("serve", "--limit", limit).exit_code == 2
    assert "expected a number above 0" in refused(run("serve", "--limit", "queue=0"))


@pytest.mark.skipif(find_spec("torch") is None, reason="the segmenter is made by torch")
def test_a_bundle_that_segments_answers_a_class_per_pixel(tmp_path):
    import base64

    from support.small_segmenter import exported_segmenter

    bundle = exported_segmenter(tmp_path / "bundle")
    grid, (optical, sar) = bundle.manifest.sample, tiny.raw_pair(bundle.manifest)
    with served(bundle.folder, tmp_path / "service") as service:
        status, answer, _ = service.post("/v1/segment", optical=npy(optical), sar=npy(sar))
        assert status == 200 and service.post("/v1/classify", sar=npy(sar))[0] == 404
    label = np.frombuffer(base64.b64decode(answer["label"]["base64"]), np.uint8)
    assert label.size == grid.height * grid.width
    counts = np.bincount(label, minlength=256)[: len(answer["classes"])] / label.size
    shares = [answer["class_shares"][name] for name in answer["classes"]]
    assert shares == pytest.approx(counts.tolist())


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_answer_for_the_packaged_pair(tmp_path):
    assert BROWSER is not None
    shipped = Path(str(run_json("inspect", "default")["folder"]))
    with served(shipped, tmp_path) as service:
        words = [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server",
            "--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom",
            f"http://127.0.0.1:{service.port}/#example",
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert 'class="answer"' in done.stdout and "What it trusted" in done.stdout
    assert not re.findall(r"CONSOLE.*", done.stderr)

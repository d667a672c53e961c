"""A search of a STAC API as a work list, against an API on this machine that hands out pages."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from support.archive_parts import item, records, write_scenes
from support.cli_parts import refused, run

from esccs_edge.archive.scene_list import read_scene_list
from esccs_edge.errors import InputError


class Api(BaseHTTPRequestHandler):
    """Answers ``/search`` with ``limit`` items a page and a link to the next."""

    items: list[dict] = []
    asked: list[dict] = []
    #: What is wrong: "" or "repeats", "short", "text", "no features".
    fault = ""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path != "/search":
            self.send_error(404)
            return
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.asked.append(asked)
        start, limit = int(asked.get("token", 0)), int(asked.get("limit", 2))
        end, links = start if self.fault == "repeats" else start + limit, []
        if end < len(self.items) and self.fault != "short":
            root = f"http://{self.headers['Host']}/search"
            links.append({"rel": "next", "href": f"{root}?limit={limit}&token={end}"})
        page = {"type": "FeatureCollection", "numberMatched": len(self.items), "links": links,
                "features": self.items[start : start + limit]}  # fmt: skip
        if self.fault == "no features":
            page["features"] = "none"
        body = b"<html>" if self.fault == "text" else json.dumps(page).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/geo+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextmanager
def api(items, fault=""):
    class Its(Api):
        pass

    Its.items, Its.asked, Its.fault = items, [], fault
    with ThreadingHTTPServer(("127.0.0.1", 0), Its) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/search", Its.asked
        finally:
            server.shutdown()


def items(count: int) -> list[dict]:
    return [item(f"s{i}", optical=f"/data/{i}-o.tif", sar=f"file:///data/{i}-s.tif")
            for i in range(count)]  # fmt: skip


def test_without_the_option_nothing_is_asked():
    with api(items(3)) as (address, asked):
        with pytest.raises(InputError, match="--remote"):
            read_scene_list(address)
        assert asked == []


@pytest.fixture
def client():
    return pytest.importorskip("pystac_client", reason="needs pystac-client")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_all_pages_are_read_in_their_order(client, count):
    with api(items(count)) as (address, asked):
        words = f"{address}?collections=pairs&bbox=1,41,2,42&limit=2"
        scenes = read_scene_list(words, remote=True)
        assert [scene.id for scene in scenes] == [f"s{i}" for i in range(count)]
        assert str(scenes[0].optical) == "/data/0-o.tif"
        assert asked[0]["collections"] == "pairs" and asked[0]["limit"] == "2"
        assert len(asked) == -(-count // 2)


def test_rasters_elsewhere_fail_by_scene(client):
    entries = [item("far", optical="https://host/o.tif"), item("relative", optical="o.tif")]
    with api(entries) as (address, _):
        far, relative = read_scene_list(address, remote=True)
    assert "https://host/o.tif" in far.problem and "absolute" in relative.problem


@pytest.mark.parametrize(
    ("fault", "words"),
    [("repeats", "twice"), ("short", "5"), ("text", "cannot be searched"),
     ("no features", "cannot be searched")],
)  # fmt: skip
def test_pages_that_repeat_end_early_or_are_none_are_refused(client, fault, words):
    with api(items(5), fault) as (address, _), pytest.raises(InputError, match=words):
        read_scene_list(f"{address}?limit=2", remote=True)


@pytest.mark.parametrize(
    ("ending", "words"),
    [("x", "cannot be searched"), ("?area=a", "area"), ("?limit=many", "many"),
     ("?ids=a&ids=b", "at most once"), ("?bbox=1,2", "bbox|cannot")],
)  # fmt: skip
def test_what_an_api_does_not_know_is_refused(client, ending, words):
    with api([]) as (address, _), pytest.raises(InputError, match=words):
        read_scene_list(address + ending, remote=True)


def test_nothing_found_and_nobody_there_are_refused(client):
    with api([]) as (address, _), pytest.raises(InputError, match="lists no scenes"):
        read_scene_list(address, remote=True)
    with pytest.raises(InputError, match="cannot be searched"):
        read_scene_list(address, remote=True)


def test_an_archive_is_mapped_from_a_search(client, bundle, tmp_path):
    found = write_scenes(tmp_path, bundle.manifest, ["a", "b", "c"])
    for entry in found:
        for asset in entry["assets"].values():
            asset["href"] = str(tmp_path / asset["href"])
    out = tmp_path / "maps"
    with api(found) as (address, asked):
        words = ["map", "--catalog", address, "--out", out, "--bundle", bundle.folder]
        assert "--remote" in refused(run(*words))
        assert run(*words, "--remote").exit_code == 0
        assert len(asked) == 2
    assert sorted(records(out)) == ["a", "b", "c"]

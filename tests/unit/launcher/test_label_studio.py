"""Label Studio's requests to an "ML backend", over a real connection."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from threading import Thread
from xml.sax.saxutils import quoteattr

import pytest

from launcher.label_studio import Interface, server_of
from spe_dist.extraction.predict.extractor import Extractor
from tests.unit.spe_dist.extraction.lively import save_lively

TEXT = "Marie Curie was born in Warsaw 🎉. She lived in Paris."
CONFIG = """<View><Header value="x"/><Labels name="ner" toName="body"><Label value="P"/></Labels>
<Text name="other" value="$title"/><Text name="body" value="$note"/></View>"""


@pytest.fixture(scope="module")
def extractor(tmp_path_factory) -> Extractor:
    return Extractor.from_pretrained(save_lively(tmp_path_factory.mktemp("lively") / "model"))


@pytest.fixture
def connection(extractor) -> Iterator[HTTPConnection]:
    with server_of(extractor, "people/seed-1", "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        server.shutdown()
        thread.join()


def ask(connection: HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data if method == "POST" else None, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_what_label_studio_asks_for(connection, extractor, capfd):
    assert ask(connection, "GET", "/health")[1]["status"] == "UP"
    setup = {"project": "1.16", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "x"}
    assert ask(connection, "POST", "/setup", setup) == (200, {"model_version": "people/seed-1"})
    assert f"no Label for {', '.join(sorted(extractor.entity_types))}, only P: add them" in capfd.readouterr().err
    labels = "".join(f"<Label value={quoteattr(kind)}/>" for kind in extractor.entity_types)
    assert ask(connection, "POST", "/setup", {"schema": CONFIG.replace('<Label value="P"/>', labels)})[0] == 200
    assert "warning" not in capfd.readouterr().err
    assert ask(connection, "POST", "/setup", {"schema": "<View/>"})[0] == 200  # people may write it later
    assert "warning: the labelling interface has no Labels for a Text" in capfd.readouterr().err
    tasks = [{"id": 1, "data": {"title": "no", "note": TEXT}}, {"id": 2, "data": {"title": "no", "note": ""}}]
    request = {"tasks": tasks, "project": "1.16", "label_config": CONFIG, "params": {"context": None}}
    status, answer = ask(connection, "POST", "/predict", request)
    assert status == 200 and len(answer["results"]) == 2
    first, second = answer["results"]
    assert second == {"model_version": "people/seed-1", "result": []}
    (found,) = extractor([TEXT])
    regions = [one for one in first["result"] if one["type"] == "labels"]
    assert [(one["value"]["start"], one["value"]["end"], one["value"]["labels"]) for one in regions] == [
        (one.start, one.end, [one.type]) for one in found.entities
    ]
    assert regions and {(one["from_name"], one["to_name"]) for one in regions} == {("ner", "body")}
    arrows = [one for one in first["result"] if one["type"] == "relation"]
    ids = {one["id"]: number for number, one in enumerate(regions)}
    assert [(ids[one["from_id"]], ids[one["to_id"]], one["labels"]) for one in arrows] == [
        (one.head, one.tail, [one.type]) for one in found.relations
    ]
    assert first["score"] == min(one["score"] for one in first["result"])
    assert ask(connection, "POST", "/webhook", {"action": "ANNOTATION_CREATED"})[0] == 201


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/predict", b"{", 400, "the body is no JSON (Expecting"),
        ("/predict", [], 400, "expected an object"),
        ("/predict", {"tasks": 3}, 400, "'tasks' is no list of tasks"),
        ("/predict", {"tasks": [{"id": 7}]}, 400, "task 7 has no 'data'"),
        ("/predict", {"tasks": [{"data": {"a": 1}}]}, 400, r"no field 'data.text' holds the text"),
        ("/predict", {"tasks": [], "label_config": "<View>"}, 400, "no XML"),
        ("/predict", {"tasks": [], "label_config": [1]}, 400, "no XML"),
        ("/predict", {"tasks": [], "label_config": "<View/>"}, 400, "no Labels for a Text"),
        ("/train", {}, 404, "there is no /train"),
    ],
)
def test_bad_requests_are_answered(connection, path, body, status, error):
    found, answer = ask(connection, "POST", path, body)
    assert found == status and error in answer["error"]
    connection.request("POST", "/predict", headers={"Content-Length": str(1 << 40)})
    assert connection.getresponse().status == 413


def test_names_of_an_interface():
    assert Interface.of(CONFIG) == Interface("ner", "body", "note", frozenset({"P"}))

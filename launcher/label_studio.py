"""`spe label-studio MODEL`: predictions of an extractor for Label Studio, which asks for them as an "ML backend".

Label Studio sends `POST /predict` with tasks and the labelling interface, and expects a prediction for each; `GET
/health` and `POST /setup` when it is connected; `POST /webhook` when something was annotated, which changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import tyro

from data_shards.annotated.label_studio import FROM_NAME, TO_NAME, text_of_task
from data_shards.errors import UserError
from data_shards.hub import fetch_model
from launcher.arguments import parse_arguments
from launcher.predict_formats import prediction, version_of
from spe_dist.finetuning.model_stem import require_model

if TYPE_CHECKING:
    from spe_dist.extraction.predict.extractor import Extractor

_MOST_BYTES = 64 << 20  # of a request


@dataclass(frozen=True)
class LabelStudio:
    """Answer Label Studio's requests for predictions of entities and relations (an "ML backend").

    In Label Studio: Settings, Model, Connect Model, with the address that the command prints. The interface needs
    Labels for a Text; Relations are shown if the interface has them. Anyone who can reach the address can use the
    model.
    """

    model: tyro.conf.Positional[Path]
    """Folder of a fine-tuned extractor, such as RUN/seed-1/model, or USER/MODEL on the Hugging Face hub."""
    host: str = "127.0.0.1"
    """Address to listen at. The default is for this machine alone; 0.0.0.0 is for all networks."""
    port: int = 9090
    """Port to listen at; 0 picks a free one."""
    device: str | None = None
    """Device: cpu, cuda, cuda:1. Default: a GPU if there is one."""
    batch_size: int = 256
    """Maximum number of sentences in a batch."""


def main(argv: list[str]) -> None:
    """Run `spe label-studio` until it is interrupted."""
    command: LabelStudio = parse_arguments(LabelStudio, argv, prog="spe label-studio")
    command = replace(command, model=fetch_model(command.model))
    require_model(command.model, "extractor")
    from spe_dist.extraction.predict.extractor import Extractor

    extractor = Extractor.from_pretrained(command.model, device=command.device, batch_size=command.batch_size)
    try:
        server = server_of(extractor, version_of(command.model), command.host, command.port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen at {command.host}, port {command.port}: {error}: choose another --port"
        ) from error
    with server:
        print(f"Label Studio may connect to http://{command.host}:{server.server_port}; Ctrl-C ends this", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)


def server_of(extractor: Extractor, version: str, host: str, port: int) -> ThreadingHTTPServer:
    """A server that is listening, and answers once `serve_forever` is called."""
    return ThreadingHTTPServer((host, port), partial(_Handler, extractor, version, Lock()))


@dataclass(frozen=True)
class Interface:
    """What a labelling interface calls its tags.

    Args:
        from_name: of the tag that marks entities.
        to_name: of the text.
        field: field of the tasks' data that holds the text; empty if the interface does not say it.
        labels: that entities may have; empty if the interface does not say it.
    """

    from_name: str = FROM_NAME
    to_name: str = TO_NAME
    field: str = ""
    labels: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: str) -> Interface:
        """The first Labels of an interface, and their Text.

        Raises:
            ValueError: it has none.
        """
        try:
            root = ElementTree.fromstring(config)
        except (ElementTree.ParseError, TypeError) as error:
            raise ValueError(f"the labelling interface is no XML ({error})") from error
        texts = {tag.get("name", ""): tag.get("value", "") for tag in root.iter("Text")}
        for labels in root.iter("Labels"):
            if labels.get("toName") in texts:
                name = labels.get("toName", "")
                known = frozenset(label.get("value", "") for label in labels.iter("Label"))
                return cls(labels.get("name", FROM_NAME), name, texts[name].removeprefix("$"), known)
        raise ValueError("the labelling interface has no Labels for a Text")


def answer(extractor: Extractor, version: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What to answer to `POST /predict`.

    Raises:
        ValueError: the request has no tasks with texts, or an interface without Labels.
    """
    interface = Interface.of(request["label_config"]) if request.get("label_config") else Interface()
    tasks = request.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError("'tasks' is no list of tasks")
    texts = []
    for task in tasks:
        data = task.get("data")
        if not isinstance(data, dict):
            raise ValueError(f"task {task.get('id')} has no 'data'")
        text = data.get(interface.field)
        texts.append(text if isinstance(text, str) else text_of_task(data))
    found = [prediction(extracted, version) for extracted in extractor(texts)]
    for one in found:
        for result in one["result"]:
            if "from_name" in result:
                result |= {"from_name": interface.from_name, "to_name": interface.to_name}
    return {"results": found, "model_version": version}


class _Handler(BaseHTTPRequestHandler):
    timeout = 60  # seconds in which a request must come

    def __init__(self, extractor: Extractor, version: str, one_at_a_time: Lock, *arguments: Any) -> None:
        self._extractor, self._version, self._one_at_a_time = extractor, version, one_at_a_time
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path in ("/", "/health"):
            self._send(200, {"status": "UP", "model_class": "Extractor", "model_version": self._version})
        else:
            self._send(404, {"error": f"there is no {self.path}: GET /health, POST /predict, /setup or /webhook"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            self.close_connection = True
            self._send(413, {"error": f"a request needs a Content-Length of at most {_MOST_BYTES:,} bytes"})
            return
        body = self.rfile.read(int(length))
        try:
            request = json.loads(body)
            if not isinstance(request, dict):
                raise ValueError("expected an object")
            self._answer(request)
        except json.JSONDecodeError as error:
            self._send(400, {"error": f"the body is no JSON ({error}): send what Label Studio sends"})
        except (ValueError, RecursionError) as error:
            self._send(400, {"error": f"cannot answer: {error}"})

    def _answer(self, request: dict[str, Any]) -> None:
        match self.path.rstrip("/"):
            case "/predict":
                with self._one_at_a_time:
                    found = answer(self._extractor, self._version, request)
                self._send(200, found)
            case "/setup":
                self._tell_missing_labels(request)
                self._send(200, {"model_version": self._version})
            case "/webhook":
                self._send(201, {})
            case _:
                self._send(404, {"error": f"there is no {self.path}: POST /predict, /setup or /webhook"})

    def _tell_missing_labels(self, request: dict[str, Any]) -> None:
        try:
            labels = Interface.of(request["schema"]).labels if request.get("schema") else frozenset()
        except ValueError as error:  # no reason to refuse: people may connect this first
            print(f"warning: {error}: correct it before you ask for predictions", file=sys.stderr)
            return
        if missing := labels and sorted({*self._extractor.entity_types} - labels):
            print(
                f"warning: the labelling interface has no Label for {', '.join(missing)}, only "
                f"{', '.join(sorted(labels))}: add them, or Label Studio may hide or refuse what has these types",
                file=sys.stderr,
            )

    def _send(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """A line on standard error, without the text of a request."""
        print(f"{self.address_string()} {format % arguments}", file=sys.stderr)

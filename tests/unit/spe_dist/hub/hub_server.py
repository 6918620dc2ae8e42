"""A stand-in for the Hugging Face hub: repositories in memory, by the requests that huggingface_hub makes."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN, READ_ONLY = "hf_of_ann", "hf_of_a_reader"
Files = dict[str, bytes]


class Repository:
    """Branches, each with the files of its last commit.

    Args:
        private: only who has a token sees it.
        gated: nobody may download it before he is admitted.
    """

    def __init__(self, *, private: bool = False, gated: bool = False) -> None:
        self.private, self.gated = private, gated
        self.branches: dict[str, Files] = {"main": {".gitattributes": b""}}

    def find(self, revision: str) -> Files | None:
        return next((files for name, files in self.branches.items() if revision in (name, sha(files))), None)


def sha(files: Files) -> str:
    """Of a commit, as the hub has them: 40 hexadecimal digits."""
    return hashlib.sha1(json.dumps({n: data.hex() for n, data in files.items()}, sort_keys=True).encode()).hexdigest()


class Hub:
    """What is there, what has been asked for, and a fault that all answers have if it is set.

    Args:
        address: where it listens.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.fault: int | None = None


class _Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        headers: dict[str, str] = {}
        try:
            if self.hub.fault:
                raise _Refusal(self.hub.fault)
            found = self._found(path, body)
            status, content = 200, found if isinstance(found, bytes) else json.dumps(found).encode()
            if isinstance(found, bytes):
                headers = {"ETag": f'"{hashlib.sha1(found).hexdigest()}"', "X-Repo-Commit": path.split("/")[4]}
        except _Refusal as refusal:
            status, content = refusal.status, refusal.message.encode()
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _found(self, path: str, body: bytes) -> Any:
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if parts := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            files = self._files(parts[1], parts[2])
            if self.hub.repositories[parts[1]].gated:
                raise _Refusal(403, "GatedRepo", "You are not in the authorized list.")
            return files[parts[3]]
        if parts := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/(.+)", path):
            return self._write(parts[1], parts[2], parts[3], body)
        parts = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        assert parts, path
        files = self._files(parts[1], parts[3] or "main")
        if parts[2] == "tree":
            return [{"type": "file", "path": n, "size": len(d), "oid": sha({n: d})} for n, d in files.items()]
        siblings = [{"rfilename": name} for name in files]
        private = self.hub.repositories[parts[1]].private
        return {"id": parts[1], "sha": sha(files), "private": private, "siblings": siblings}

    def _files(self, name: str, revision: str) -> Files:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self._token() is None):
            raise _Refusal(404 if self._token() else 401, "RepoNotFound", "Repository not found")
        files = repository.find(revision)
        if files is None:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return files

    def _token(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return token if token in (TOKEN, READ_ONLY) else None

    def _check_may_write(self) -> None:
        if self._token() is None:
            raise _Refusal(401, message="Invalid credentials in Authorization header")
        if self._token() == READ_ONLY:
            raise _Refusal(403, message="You don't have the rights to create a model under this namespace")

    def _validate(self, card: str) -> dict[str, Any]:
        if "license: to-kill" in card:
            raise _Refusal(400, message='"license" must be one of [mit, ...]')
        return {"errors": [], "warnings": []}

    def _create(self, asked: dict[str, Any]) -> dict[str, str]:
        self._check_may_write()
        name = f"{asked['organization']}/{asked['name']}"
        private = asked.get("private") or asked.get("visibility") == "private"
        if name in self.hub.repositories:
            raise _Refusal(409, message=json.dumps({"url": f"{self.hub.address}/{name}"}))
        self.hub.repositories[name] = Repository(private=bool(private))
        return {"url": f"{self.hub.address}/{name}"}

    def _write(self, name: str, what: str, revision: str, body: bytes) -> dict[str, Any]:
        self._check_may_write()
        branches = self.hub.repositories[name].branches
        if what == "branch":
            branches[revision] = dict(branches["main"])
            return {}
        if what == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                branches[revision] |= {line["value"]["path"]: base64.b64decode(line["value"]["content"])}
        url = f"{self.hub.address}/{name}/commit/{sha(branches[revision])}"
        return {"success": True, "commitUrl": url, "commitOid": sha(branches[revision])}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield handler.hub
        finally:
            server.shutdown()

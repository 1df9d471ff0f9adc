"""A stand-in for the Hugging Face hub on this machine: as much of its HTTP API as pushing and loading a small module takes.

Files are taken as "regular" ones, in the commit itself. The hub takes safetensors by another way (LFS, xet), which is not here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_stand_in"
NAME = r"[\w.-]+/[\w.-]+"


@dataclass
class Repository:
    """commits: commit -> its files, the newest last."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def newest(self) -> str:
        return next(reversed(self.commits), "0" * 40)


@dataclass
class StandIn:
    """url: where it listens; asked: every request as "METHOD path", with the token it carried; broken: answers 500 to all."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    broken: bool = False

    def add(self, name: str, *, private: bool = False, **files: str) -> str:
        """A repository with these files (a_b names a.b). Returns its commit."""
        content = {file.replace("_", "."): text.encode() for file, text in files.items()}
        commit = hashlib.sha1(repr((name, content)).encode()).hexdigest()
        self.repositories[name] = Repository(private, {commit: content})
        return commit


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """The stand-in, on a port of loopback, until the block ends."""
    hub = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((f"{self.command} {path}", token))
            if hub.broken:
                return self.send(500, {"error": "the stand-in is broken"})
            for method, pattern, does in ROUTES:
                match = re.fullmatch(pattern, path)
                if self.command in method and match:
                    return does(self, hub, token == TOKEN, body, *match.groups())
            return self.send(404, {"error": f"no such page: {path}"})

        def send(self, status: int, value: object = None, raw: bytes | None = None, **headers: str) -> None:
            content = json.dumps(value).encode() if raw is None else raw
            self.send_response(status)
            for name, text in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def missing(self) -> None:
            """As the hub answers for what is not there and for what is not for these eyes."""
            self.send(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def create(page, hub, trusted, body):
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    if not trusted:
        return page.send(401, {"error": "Invalid username or password."})
    if name in hub.repositories:
        return page.send(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
    hub.repositories[name] = Repository(asked.get("visibility") == "private")
    return page.send(200, {"url": f"{hub.url}/{name}"})


def check_yaml(page, hub, trusted, body):
    page.send(200, {"errors": [], "warnings": []})


def seen(hub, trusted, name):
    """The repository, where whoever asks may see it."""
    one = hub.repositories.get(name)
    return one if one is not None and (trusted or not one.private) else None


def upload_modes(page, hub, trusted, body, name, branch):
    if not trusted or name not in hub.repositories:
        return page.missing()
    files = [
        {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
    ]
    return page.send(200, {"files": files})


def commit(page, hub, trusted, body, name, branch):
    if not trusted or name not in hub.repositories:
        return page.missing()
    one = hub.repositories[name]
    files = dict(one.commits.get(one.newest, {}))
    for line in map(json.loads, body.splitlines()):
        if line["key"] == "file":
            files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
    oid = hashlib.sha1(repr((name, one.newest, sorted(files.items()))).encode()).hexdigest()
    one.commits[oid] = files
    return page.send(200, {"commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid, "success": True})


def about(page, hub, trusted, body, name, revision=None):
    one = seen(hub, trusted, name)
    if one is None:
        return page.missing()
    if revision not in (None, "main", *one.commits):
        return page.send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
    at = one.newest if revision in (None, "main") else revision
    siblings = [{"rfilename": file} for file in one.commits.get(at, {})]
    return page.send(
        200, {"id": name, "modelId": name, "sha": at, "private": one.private, "siblings": siblings, "tags": []}
    )


def tree(page, hub, trusted, body, name, revision):
    one = seen(hub, trusted, name)
    if one is None or revision not in one.commits:
        return page.missing()
    rows = [
        {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for path, content in one.commits[revision].items()
    ]
    return page.send(200, rows)


def file(page, hub, trusted, body, name, revision, path):
    one = seen(hub, trusted, name)
    if one is None or path not in one.commits.get(revision, {}):
        return page.missing()
    content = one.commits[revision][path]
    headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X_Repo_Commit": revision, "Accept_Ranges": "bytes"}
    return page.send(200, raw=content, **headers)


ROUTES = (
    (("POST",), "/api/repos/create", create),
    (("POST",), "/api/validate-yaml", check_yaml),
    (("POST",), rf"/api/models/({NAME})/preupload/(\w+)", upload_modes),
    (("POST",), rf"/api/models/({NAME})/commit/(\w+)", commit),
    (("GET",), rf"/api/models/({NAME})", about),
    (("GET",), rf"/api/models/({NAME})/revision/(\w+)", about),
    (("GET",), rf"/api/models/({NAME})/tree/(\w+)", tree),
    (("GET", "HEAD"), rf"/({NAME})/resolve/(\w+)/([\w.-]+)", file),
)

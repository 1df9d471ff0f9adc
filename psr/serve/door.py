"""What stands before every route: who may come in, how much may be sent, and that errors have OpenAI's shape.

An error is one line, and never shows a traceback, a key, or another request's text.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from psr.serve import LOOPBACK
from psr.serve.engine import place_of

LARGEST_BODY = 2_000_000  # bytes
_DRAINED = 64_000_000  # bytes of a body that is too large which are read, and not kept, so that the client hears why
_PATIENCE = 10.0  # seconds in which a body has to come
_log = logging.getLogger("psr.serve")
_PORT = re.compile(r":\d+$")


class Refused(Exception):
    """A request that gets an error: its status, its line, and what OpenAI's clients read beside it."""

    def __init__(
        self,
        status: int,
        line: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(line)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The error as a response, in ASCII: it may repeat what cannot be written as UTF-8."""
        return Response(json.dumps(self.body), self.status, self.headers, media_type="application/json")


class Door:
    """key: what clients have to bring as `Authorization: Bearer`; "" for none, and then only names of this machine are answered,
    so that no page in a browser can reach the server under a name of its own."""

    def __init__(self, app: ASGIApp, key: str = "") -> None:
        self._app, self._key = app, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            return
        except Refused as error:
            if not started:
                await error.response()(scope, receive, send)
        except Exception as error:
            _log.error("psr: %s", place_of(error))
            if not started:
                await Refused(500, "the server failed", code="internal_error").response()(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        if not self._key:
            name = _PORT.sub("", headers.get("host", b"").decode("latin-1")).strip("[]")
            if name not in LOOPBACK:
                raise Refused(403, "this server answers on this machine only", code="wrong_host")
        elif scope["path"] != "/health":
            given = headers.get("authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self._key.encode()):
                raise Refused(401, "the key is missing or wrong: send it as `Authorization: Bearer`", code="invalid_api_key",
                              headers={"WWW-Authenticate": "Bearer"})  # fmt: skip


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises Refused for one that is not JSON by its header, too large, or does not come to its end in time."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(
            415, "the body has to be JSON: send `Content-Type: application/json`", code="unsupported_media_type"
        )
    large = Refused(413, f"the body is too large, expected at most {LARGEST_BODY} bytes", code="body_too_large",
                    headers={"Connection": "close"})  # fmt: skip
    length = headers.get("content-length", "")
    if "expect" in headers and length.isdigit() and int(length) > LARGEST_BODY:
        raise large  # the client waits for leave to send it
    body, seen, more = bytearray(), 0, True
    try:
        async with asyncio.timeout(_PATIENCE):
            while more and seen <= _DRAINED:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part, more = message.get("body", b""), message.get("more_body", False)
                seen += len(part)
                if seen <= LARGEST_BODY:
                    body += part
    except TimeoutError:
        if seen <= LARGEST_BODY:
            raise Refused(
                408, "the body did not come to its end in time", code="timeout", headers={"Connection": "close"}
            ) from None
    if seen > LARGEST_BODY:
        raise large
    return bytes(body)

"""What the server refuses: errors as one line of JSON, bounds on requests, and headers that isolate the page."""

import asyncio
import hmac
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonde.errors import BusyError, EditError, FeatureError, ModelError, SondeError
from sonde.web.openai.answers import error_body
from sonde.web.openai.requests import ModelUnknown

SECURITY_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]", "testserver")
MAX_BODY_BYTES = 1 << 20
BODY_S = 20.0
"""how long a body may take to arrive"""
_OPENAI = re.compile(r"(/at/[^/]+)?/v1(/|$)")
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_too_long": "may have {max_length} characters at most",
    "string_too_short": "must not be empty",
    "too_long": "there may be {max_length} at most, not {actual_length}",
    "too_short": "there must be {min_length} at least, not {actual_length}",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "finite_number": "must be a finite number",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
}
"""pydantic's type of an error -> what is said of the value"""
_UNION_TAGS = ("str", "Edit")
"""parts of a place that name which of several types was tried"""


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with one line that names it: in our own shape, or in OpenAI's under /v1."""

    @app.exception_handler(SondeError)
    def on_error(request: Request, error: SondeError) -> JSONResponse:
        headers = {"Retry-After": "1"} if isinstance(error, BusyError) else None
        if _is_openai(request.url.path):
            return _openai_error(error, headers)
        return JSONResponse({"error": str(error)}, _status(error), headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        place, said = _worst(error.errors())
        status = 400 if _is_openai(request.url.path) else 422
        return _problem(request.url.path, f"{place or 'request'}: {said}", status, param=place or None)

    @app.exception_handler(HTTPException)
    def on_http(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return _problem(request.url.path, message, error.status_code, headers=error.headers)

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.Error)
    def on_storage(request: Request, error: OSError | sqlite3.Error) -> JSONResponse:
        """Of an index that has gone, or lies on a disk that is broken, while it is served."""
        words = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)
        message = f"the index cannot be read ({words}); look whether its folder is there, and start sonde again"
        return _problem(request.url.path, message, 400)

    @app.exception_handler(Exception)
    def on_bug(request: Request, error: Exception) -> JSONResponse:
        message = f"this is a bug in sonde; its terminal shows more: {type(error).__name__}: {error}"
        return _problem(request.url.path, message, 500, "server_error")


def _is_openai(path: str) -> bool:
    return _OPENAI.match(path) is not None


def _problem(
    path: str,
    message: str,
    status: int,
    kind: str = "invalid_request_error",
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error in the shape of the protocol that a path belongs to."""
    body = error_body(message, kind, param) if _is_openai(path) else {"error": message}
    return JSONResponse(body, status, dict(headers or {}))


def _worst(errors: Sequence[Any]) -> tuple[str, str]:
    """The place and words of the error that says most: of a value that may have several types, not which it has not."""
    chosen = next((error for error in errors if not error["type"].endswith("_type")), errors[0])
    if chosen["type"] == "json_invalid":
        return "", f"the body is no JSON: {chosen.get('ctx', {}).get('error', chosen['msg'])}"
    place = [str(part) for part in chosen["loc"] if part not in ("body", "query", "path", *_UNION_TAGS)]
    return ".".join(place), _plain(chosen)


def _plain(error: Any) -> str:
    """What is wrong with a value, and what it may be, in words for people who have not read pydantic's."""
    words = _WORDS.get(error["type"])
    return words.format(**error.get("ctx", {})) if words else error["msg"].removeprefix("Value error, ")


def _status(error: SondeError) -> int:
    match error:
        case BusyError():
            return 429
        case FeatureError() | ModelUnknown():
            return 404
        case ModelError():
            return 422
    return 400


def _openai_error(error: SondeError, headers: dict[str, str] | None) -> JSONResponse:
    match error:
        case BusyError():
            return JSONResponse(error_body(str(error), "rate_limit_error"), 429, headers)
        case ModelUnknown():
            return JSONResponse(error_body(str(error), param="model", code="model_not_found"), 404)
        case FeatureError() | EditError():
            return JSONResponse(error_body(str(error), param="edits"), 400)
    return JSONResponse(error_body(str(error)), 400)


class Guard:
    """Lets through only requests to this machine's names and one more, of its own pages or of no page, of bounded size,
    with the token if one is set.

    The body is read here, whole and within a time, so that nothing behind waits for one that never ends.
    """

    def __init__(self, app: ASGIApp, name: str = "", token: str = "") -> None:
        self.app, self.names, self.token = app, (*OWN_NAMES, name) if name else OWN_NAMES, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_isolated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer, receive = await self._check(scope, receive)
        await (answer or self.app)(scope, receive, send_isolated)

    async def _check(self, scope: Scope, receive: Receive) -> tuple[JSONResponse | None, Receive]:
        """What is answered to a request that is refused, and the receiver of one that is not."""
        headers, path = Headers(scope=scope), scope["path"]
        if refused := self._refused(scope["method"], path, headers):
            return refused, receive
        too_long = _problem(path, f"a request may have {MAX_BODY_BYTES:,} bytes at most", 413)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return too_long, receive
        try:
            async with asyncio.timeout(BODY_S):
                body = await _read_body(receive)
        except TimeoutError:
            message = f"the body did not arrive within {BODY_S:.0f} s"
            return _problem(path, message, 408, headers={"Connection": "close"}), receive
        return (too_long, receive) if body is None else (None, _replay(body, receive))

    def _refused(self, method: str, path: str, headers: Headers) -> JSONResponse | None:
        """The answer to who may not ask."""
        host = headers.get("host", "")
        name = re.sub(r":\d+$", "", host)
        if name not in self.names:
            return _problem(
                path, f"this server answers to {self.names[-1 if self.token else 0]} only, not to {name!r}", 400
            )
        if page := _other_page(method, host, headers):
            return _problem(path, f"requests from pages of other sites ({page}) are refused", 403, "permission_error")
        sent_token = headers.get("authorization", "").removeprefix("Bearer ")
        if self.token and not hmac.compare_digest(sent_token.encode(), self.token.encode()):
            message = "this server needs a token: Authorization: Bearer TOKEN"
            return _problem(path, message, 401, "authentication_error")
        return None


def _other_page(method: str, host: str, headers: Headers) -> str | None:
    """The page of another site that a browser says a request comes from; a link that a person follows is none."""
    origin = headers.get("origin")
    if origin is not None and origin.rpartition("://")[2].lower() != host.lower():
        return repr(origin[:60])
    site = headers.get("sec-fetch-site", "none")
    follows_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    return site if site not in ("none", "same-origin") and not follows_link else None


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body, in one piece or in chunks; None of one that is too long."""
    parts, n = [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        n += len(parts[-1])
        if n > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):  # also where the client has gone
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receiver that gives a body that was read, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay

"""What the server refuses: errors as one line of JSON, bounds on requests, and headers that isolate the page."""

import hmac
import re
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sonde.errors import BusyError, EditError, FeatureError, ModelError, SondeError
from sonde.web.openai.answers import error_body
from sonde.web.openai.requests import ModelUnknown

SECURITY_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]", "testserver")
MAX_BODY_BYTES = 1 << 20


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with one line that names it: in our own shape, or in OpenAI's under /v1."""

    @app.exception_handler(SondeError)
    def on_error(request: Request, error: SondeError) -> JSONResponse:
        headers = {"Retry-After": "1"} if isinstance(error, BusyError) else None
        if _is_openai(request):
            return _openai_error(error, headers)
        return JSONResponse({"error": str(error)}, _status(error), headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        message = f"{place or 'request'}: {first['msg']}"
        if _is_openai(request):
            return JSONResponse(error_body(message, param=place or None), 400)
        return JSONResponse({"error": message}, 422)

    @app.exception_handler(HTTPException)
    def on_http(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        body = error_body(message) if _is_openai(request) else {"error": message}
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    def on_bug(request: Request, error: Exception) -> JSONResponse:
        message = f"this is a bug in sonde; its terminal shows more: {type(error).__name__}: {error}"
        body = error_body(message, "server_error") if _is_openai(request) else {"error": message}
        return JSONResponse(body, 500)


def _is_openai(request: Request) -> bool:
    return "/v1/" in request.url.path


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


def restrict_access(app: FastAPI, name: str, token: str) -> None:
    """Answer only requests to this machine's names and one more, of bounded size, with the token if one is set."""
    names = (*OWN_NAMES, name) if name else OWN_NAMES

    @app.middleware("http")
    async def check(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        host = re.sub(r":\d+$", "", request.headers.get("host", ""))
        if host not in names:
            return JSONResponse({"error": f"this server answers to {OWN_NAMES[0]} only, not to {host!r}"}, 400)
        sent_token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(sent_token.encode(), token.encode()):
            message = "this server needs a token: Authorization: Bearer TOKEN"
            return JSONResponse(error_body(message, "authentication_error"), 401)
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return JSONResponse({"error": f"a request may have {MAX_BODY_BYTES:,} bytes at most"}, 413)
        if "transfer-encoding" in request.headers:
            return JSONResponse({"error": "send the length of the body in Content-Length"}, 411)
        response = await answer(request)
        response.headers["Content-Security-Policy"] = SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

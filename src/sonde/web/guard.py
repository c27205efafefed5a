"""What the server refuses, and how it says so: errors as one line of JSON, bounds on what is accepted, and headers that keep the page to itself."""

import hmac
import re
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sonde.errors import BusyError, EditError, FeatureError, ModelError, SondeError
from sonde.web.openai import ModelUnknown, error_body

SECURITY_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]", "testserver")
MAX_BODY_BYTES = 1 << 20


def say_errors(app: FastAPI) -> None:
    """Answer what goes wrong with one line that names it: our own shape, or OpenAI's under /v1."""

    @app.exception_handler(SondeError)
    def on_error(request: Request, error: SondeError) -> JSONResponse:
        if isinstance(error, BusyError):
            kind, status, headers = "rate_limit_error", 429, {"Retry-After": "1"}
        else:
            kind, headers = "invalid_request_error", None
            status = (
                404 if isinstance(error, FeatureError | ModelUnknown) else 422 if isinstance(error, ModelError) else 400
            )
        if _is_protocol(request):
            status = 400 if status == 422 or isinstance(error, FeatureError) else status
            param = (
                "edits"
                if isinstance(error, FeatureError | EditError)
                else "model"
                if isinstance(error, ModelUnknown)
                else None
            )
            code = "model_not_found" if isinstance(error, ModelUnknown) else None
            return JSONResponse(error_body(str(error), kind, param, code), status, headers)
        return JSONResponse({"error": str(error)}, status, headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        message = f"{place or 'request'}: {first['msg']}"
        if _is_protocol(request):
            return JSONResponse(error_body(message, param=place or None), 400)
        return JSONResponse({"error": message}, 422)

    @app.exception_handler(HTTPException)
    def on_http(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        body = error_body(message) if _is_protocol(request) else {"error": message}
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    def on_mistake(request: Request, error: Exception) -> JSONResponse:
        message = f"this is a mistake of sonde's, and its terminal says more: {type(error).__name__}: {error}"
        body = error_body(message, "server_error") if _is_protocol(request) else {"error": message}
        return JSONResponse(body, 500)


def _is_protocol(request: Request) -> bool:
    return "/v1/" in request.url.path


def keep_to_itself(app: FastAPI, name: str, token: str) -> None:
    """Answer to this machine's own names and one more, to who brings the token if there is one, and to bodies of bounded size."""
    names = (*OWN_NAMES, name) if name else OWN_NAMES

    @app.middleware("http")
    async def bounds(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        host = re.sub(r":\d+$", "", request.headers.get("host", ""))
        if host not in names:
            return JSONResponse({"error": f"this server answers to {OWN_NAMES[0]} only, not to {host!r}"}, 400)
        brought = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(brought.encode(), token.encode()):
            return JSONResponse(
                error_body("a token is wanted: Authorization: Bearer TOKEN", "authentication_error"), 401
            )
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return JSONResponse({"error": f"a request may have {MAX_BODY_BYTES:,} bytes at most"}, 413)
        if "transfer-encoding" in request.headers:
            return JSONResponse({"error": "send the length of the body in Content-Length"}, 411)
        response = await go_on(request)
        response.headers["Content-Security-Policy"] = SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

"""One shape of error for everything that is refused or fails: {"error": {"code", "message"}}."""

from __future__ import annotations

from flask import Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
)

from tumour_segmenter.errors import ContractError


class Stopping(ServiceUnavailable):
    """What /healthz/ready answers from the signal on."""

    api_code = "stopping"
    description = "the server is about to stop; ask another one"


def init_app(app: Flask) -> None:
    """Have every error of `app` answered in the one shape."""
    app.register_error_handler(ContractError, _contract_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _crash)


def _contract_error(error: ContractError) -> Response:
    response = _body(error.code, str(error))
    response.status_code = error.status
    return response


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, NotFound):
        error.description = (
            f"there is nothing at {request.path}; see /openapi.json for what there is"
        )
    elif isinstance(error, MethodNotAllowed):
        error.valid_methods = sorted(error.valid_methods or ())
        allowed = ", ".join(error.valid_methods)
        error.description = f"{request.path} does not take {request.method}, only {allowed}"
    elif isinstance(error, RequestEntityTooLarge):
        most = f"{request.max_content_length:,}"
        error.description = f"the body is too large, at most {most} bytes are taken"
    code = getattr(error, "api_code", error.name.lower().replace(" ", "_"))
    response = error.get_response()  # with the headers that belong to it
    response.data = _body(code, error.description or error.name).data
    response.mimetype = "application/json"
    return response


def _crash(error: Exception) -> Response:
    current_app.logger.exception("%s %s failed", request.method, request.path, exc_info=error)
    response = _body("internal_error", "the server failed on this request; its log says why")
    response.status_code = 500
    return response


def _body(code: str, message: str) -> Response:
    return jsonify(error={"code": code, "message": message})

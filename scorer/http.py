"""POST /predict on the HTTP thread, and the OpenAPI document that describes the served model's features."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from schemas.json_schema import event_schema, features_schema
from schemas.verdict import Reason
from scorer.predict import MAX_EVENTS, NotAnsweredError, Predictor

# 1,000 events of 8 KiB; a longer list can be asked in parts
MAX_BODY_BYTES = 8 << 20
MAX_REQUESTS = 32
BODY_TIMEOUT_S = 10.0


def add_predict(app: FastAPI, predictor: Callable[[], Predictor]) -> None:
    """Add POST /predict. `predictor` is asked once per request, so that a list is answered by one model."""
    # one: whoever asks shares the processor with the stream, which comes first
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
    open_requests = 0

    @app.post("/predict", summary="Score one event, one bare object of features, or a list", responses=_RESPONSES)
    async def predict(request: Request) -> JSONResponse:
        nonlocal open_requests
        if open_requests >= MAX_REQUESTS:
            text = f"{open_requests} requests are being answered, which is the most at a time"
            raise HTTPException(503, text, headers={"retry-after": "1"})
        open_requests += 1
        try:
            body = await _body(request)
            answer = predictor().answer
            now_ms = time.time_ns() // 1_000_000
            return JSONResponse(await asyncio.get_running_loop().run_in_executor(executor, answer, body, now_ms))
        except NotAnsweredError as error:
            return JSONResponse({"detail": error.detail}, 422)
        finally:
            open_requests -= 1

    def describe() -> dict[str, Any]:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        document["paths"]["/predict"]["post"]["requestBody"] = _request_body(predictor())
        return document

    app.openapi = describe  # type: ignore[method-assign] # how FastAPI wants it done


async def _body(request: Request) -> bytes:
    """The request's body; 413 above MAX_BODY_BYTES, 408 if it does not arrive in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    text = f"more than {MAX_BODY_BYTES} bytes"
                    detail = [{"loc": ["body"], "type": Reason.TOO_LARGE.value, "msg": text}]
                    raise HTTPException(413, detail, headers={"connection": "close"})
    except ClientDisconnect:
        # whoever asked has gone: nobody will read this, and it is no error of ours that a log must explain
        raise HTTPException(408, "the body did not arrive") from None
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None
    return bytes(body)


def _request_body(predictor: Predictor) -> dict[str, Any]:
    manifest = predictor.model.manifest
    bare = features_schema(manifest.features)
    event = event_schema(manifest.features)
    event["required"] = ["features"]
    row = manifest.golden.rows[-1]
    features = {f.source: row.get(f.name) for f in manifest.features}
    schema = {
        "anyOf": [
            {"title": "features", **bare},
            {"title": "event", **event},
            {"title": "list", "type": "array", "maxItems": MAX_EVENTS, "items": {"anyOf": [bare, event]}},
        ]
    }
    examples = {
        "features": {"summary": "a bare object of features", "value": features},
        "event": {"summary": "an event", "value": {"customer_id": "7590-VHVEG", "features": features}},
        "list": {"summary": "a list", "value": [features, features]},
    }
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


_ANSWER = {
    "type": "object",
    "properties": {
        "probability": {"type": "number", "minimum": 0, "maximum": 1, "description": "of the positive class"},
        "label": {"type": "boolean", "description": "probability >= threshold"},
        "threshold": {"type": "number"},
        "model": {"type": "object", "properties": {"name": {"type": "string"}, "version": {"type": "string"}}},
        "event_id": {"type": "string", "description": "if one was given"},
        "customer_id": {"type": "string", "description": "if one was given"},
    },
    "required": ["probability", "label", "threshold", "model"],
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
        "type": {"enum": [reason.value for reason in Reason]},
        "msg": {"type": "string"},
    },
    "required": ["loc", "type", "msg"],
}
_PROBLEMS = {"type": "object", "properties": {"detail": {"type": "array", "items": _PROBLEM}}}


def _json(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _json("One answer, or a list of them in order", {"anyOf": [_ANSWER, {"type": "array", "items": _ANSWER}]}),
    408: {"description": f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s"},
    413: _json(f"More than {MAX_BODY_BYTES} bytes", _PROBLEMS),
    422: _json("At least one event cannot be scored; nothing was", _PROBLEMS),
    503: {"description": f"{MAX_REQUESTS} requests are being answered"},
}

"""POST /predict on the HTTP thread, and the OpenAPI document that describes the served model's features."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from schemas.bundle.manifest import Manifest
from schemas.documents.json_schema import event_schema, features_schema
from schemas.rejection_reasons import Reason
from schemas.task import SHOWN_CLASSES, TaskName
from schemas.validation import features_object
from scorer.predict import MAX_EVENTS, NotAnsweredError, Predictor

# 1,000 events of 8 KiB; a longer list can be sent in parts
MAX_BODY_BYTES = 8 << 20
# Limit of all bodies that are received, wait or are answered. A parsed body takes several times its bytes.
MAX_BODIES_BYTES = 16 << 20
MAX_REQUESTS = 32
BODY_TIMEOUT_S = 10.0
RETRY_AFTER = {"retry-after": "1"}


class _Bodies:
    """Counts the open requests and the bytes of their bodies."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes = 0

    def enter(self) -> None:
        """Open a request; 503 if too many are open."""
        if self.requests >= MAX_REQUESTS:
            text = f"{self.requests} requests are being answered, which is the most at a time"
            raise HTTPException(503, text, headers=RETRY_AFTER)
        self.requests += 1

    def add(self, size: int) -> None:
        """Make room for more bytes of a body; 503 if there is none."""
        if self.bytes + size > MAX_BODIES_BYTES:
            text = f"{self.bytes} bytes of requests are being answered; the most at a time are {MAX_BODIES_BYTES}"
            raise HTTPException(503, text, headers={**RETRY_AFTER, "connection": "close"})
        self.bytes += size


def add_predict(app: FastAPI, predictor: Callable[[], Predictor]) -> None:
    """Add POST /predict. `predictor` is called once per request, so that one model answers a whole list."""
    # one thread: requests share the processor with the stream, which comes first
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
    bodies = _Bodies()

    @app.post("/predict", summary="Score one event, one bare object of features, or a list", responses=_RESPONSES)
    async def predict(request: Request) -> JSONResponse:
        bodies.enter()
        body = bytearray()
        try:
            await _receive(request, body, bodies)
            work = executor.submit(_answer, predictor().answer, body, time.time_ns() // 1_000_000)
            try:
                return JSONResponse(await _unless_gone(request, work))
            finally:
                work.cancel()  # work for a client that has left is not started
        except NotAnsweredError as error:
            return JSONResponse({"detail": error.detail}, 422)
        finally:
            bodies.requests -= 1
            bodies.bytes -= len(body)

    def describe() -> dict[str, Any]:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        post = document["paths"]["/predict"]["post"]
        post["requestBody"] = _request_body(predictor())
        post["responses"]["200"] = _json(_RESPONSES[200]["description"], _answer_schema(predictor().model.manifest))
        return document

    app.openapi = describe  # type: ignore[method-assign] # how FastAPI wants it done


def _answer(answer: Callable[[bytes, int], Any], body: bytearray, now_ms: int) -> Any:
    return answer(bytes(body), now_ms)


async def _receive(request: Request, body: bytearray, bodies: _Bodies) -> None:
    """Read the request's body. 413 above MAX_BODY_BYTES, 408 if it does not arrive in time, 503 if there is no room."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                if len(body) + len(chunk) > MAX_BODY_BYTES:
                    text = f"more than {MAX_BODY_BYTES} bytes"
                    detail = [{"loc": ["body"], "type": Reason.TOO_LARGE.value, "msg": text}]
                    raise HTTPException(413, detail, headers={"connection": "close"})
                bodies.add(len(chunk))
                body += chunk
    except ClientDisconnect:
        # the client has left and reads no answer; this is not an error of the service
        raise HTTPException(408, "the body did not arrive") from None
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None


async def _unless_gone(request: Request, work: Future[Any]) -> Any:
    """Return what the work returns; 408 as soon as the client has left."""
    answering = asyncio.wrap_future(work)
    gone = asyncio.ensure_future(request.receive())  # after the body, the next message is the disconnection
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        raise HTTPException(408, "the client has gone")
    finally:
        gone.cancel()
        answering.cancel()


def _request_body(predictor: Predictor) -> dict[str, Any]:
    manifest = predictor.model.manifest
    bare = features_schema(manifest.features)
    event = event_schema(manifest.features)
    event["required"] = ["features"]
    row = manifest.golden.rows[-1]
    features = features_object(manifest.features, {f.name: row.get(f.name) for f in manifest.features})
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


_MODEL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "object", "properties": {"name": {"type": "string"}, "version": {"type": "string"}}},
        "event_id": {"type": "string", "description": "if one was given"},
        "customer_id": {"type": "string", "description": "if one was given"},
    },
}
_RESULTS: dict[TaskName, dict[str, Any]] = {
    "binary": {
        "properties": {
            "probability": {"type": "number", "minimum": 0, "maximum": 1, "description": "of the positive class"},
            "label": {"type": "boolean", "description": "probability >= threshold"},
            "threshold": {"type": "number"},
        },
        "required": ["probability", "label", "threshold", "model"],
    },
    "multiclass": {
        "properties": {
            "label": {"type": "string", "description": "the class with the largest probability"},
            "probability": {"type": "number", "minimum": 0, "maximum": 1, "description": "of this class"},
            "probabilities": {
                "type": "object",
                "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
                "description": f"by class; of more than {SHOWN_CLASSES} classes the likeliest {SHOWN_CLASSES}",
            },
        },
        "required": ["label", "probability", "probabilities", "model"],
    },
    "regression": {
        "properties": {
            "value": {"type": "number"},
            "interval": {
                "type": "object",
                "properties": {"low": {"type": "number"}, "high": {"type": "number"}, "level": {"type": "number"}},
                "description": "where the outcome is, in a share `level` of customers; if the model has a calibration",
            },
        },
        "required": ["value", "model"],
    },
}


def _answer_schema(manifest: Manifest) -> dict[str, Any]:
    result = _RESULTS[manifest.predicts.name]
    answer = {**_MODEL, "properties": {**result["properties"], **_MODEL["properties"]}, "required": result["required"]}
    if manifest.value is not None:
        stated = manifest.value.model_dump(exclude_none=True)
        text = ", ".join(f"{name} {value}" for name, value in stated.items())
        answer["properties"] = {**answer["properties"], "value": {"type": "number", "description": text}}
    return {"anyOf": [answer, {"type": "array", "items": answer}]}


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
    200: {"description": "One answer, or a list of them in order"},
    408: {"description": f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s"},
    413: _json(f"More than {MAX_BODY_BYTES} bytes", _PROBLEMS),
    422: _json("At least one event cannot be scored; none was scored", _PROBLEMS),
    503: {"description": f"{MAX_REQUESTS} requests, or {MAX_BODIES_BYTES} bytes of them, are being answered"},
}

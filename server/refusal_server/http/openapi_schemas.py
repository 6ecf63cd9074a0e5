"""Schemas of the OpenAPI document: requests as the server checks them, and what it answers."""

from __future__ import annotations

from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.chat.fields import FIELDS
from refusal_steering.directive import MAX_TOKEN_RISKS

Schema = dict[str, Any]
PLACE = "#/components/schemas/{model}"
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": ["number", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OBJECT: Schema = {"type": "object"}
# What a field needs besides being known: see the kinds in ``chat/fields.py``.
_NOTES = {
    "bounded": "The server bounds it.",
    "guarded": "Under a policy that enforces, the request is judged before it is answered.",
    "beginning": "Refused under a policy that enforces.",
    "reading": "Refused under a policy that enforces.",
}


def obj(required: tuple[str, ...] = (), about: str = "", **properties: Any) -> Schema:
    """An object with some properties."""
    found: Schema = {"type": "object", "properties": properties}
    found |= {"required": [*required]} if required else {}
    return found | ({"description": about} if about else {})


def many(items: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """A schema of :func:`schemas` by its name."""
    return {"$ref": PLACE.format(model=name)}


def schemas() -> dict[str, Schema]:
    """Every schema by its name."""
    chat = ChatCompletionRequest.model_json_schema(ref_template=PLACE)
    parts: dict[str, Schema] = chat.pop("$defs", {})
    return parts | {
        "ChatRequest": _chat_request(chat),
        "Steering": _steering(),
        "SteeringReport": _report(),
        "ChatAnswer": obj(
            ("id", "choices"),
            id=_TEXT,
            object={"const": "chat.completion"},
            created={"type": "integer"},
            model=_TEXT,
            choices=many(obj(("index", "message"), index=_COUNT, message=_OBJECT)),
            usage=_OBJECT,
            steering=ref("SteeringReport"),
        ),
        "ModerationRequest": obj(
            ("input",), input={"anyOf": [_TEXT, many({})]}, model=_TEXT, steering=ref("Steering")
        ),
        "ModerationAnswer": obj(
            ("id", "results"),
            id=_TEXT,
            model=_TEXT,
            results=many(obj(("flagged",), flagged={"type": "boolean"}, category_scores=_OBJECT)),
        ),
        "Models": obj(("data",), object={"const": "list"}, data=many(ref("Model"))),
        "Model": obj(("id",), id=_TEXT, object={"const": "model"}, modalities=many(_TEXT)),
        "Error": obj(
            ("error",),
            error=obj(
                ("message", "type", "param", "code"),
                message=_TEXT,
                type=_TEXT,
                param={"type": ["string", "null"]},
                code=_TEXT,
            ),
        ),
    }


def _chat_request(chat: Schema) -> Schema:
    """vLLM's request without the fields that this server refuses, and with ours."""
    taken = {
        name: field for name, field in FIELDS.items() if field.why == "" or field.kind in _NOTES
    }
    properties = {}
    for name, field in taken.items():
        found = dict(chat["properties"].get(name, {}))
        found.pop("default", None)
        note = _NOTES.get(field.kind)
        if note is not None:
            found["description"] = f"{found.get('description', '')} {note}".strip()
        properties[name] = found
    properties["steering"] = ref("Steering")
    return {**obj(("messages",)), "properties": properties, "additionalProperties": False}


def _steering() -> Schema:
    found = obj(
        about="How this request is steered; without it, as the caller's default policy says.",
        policy={**_TEXT, "description": "a policy by name"},
        strength={
            "type": "number",
            "minimum": 0,
            "description": "multiplies the coefficient that is earned, in the policy's bounds",
        },
        report={"type": "boolean", "description": "adds a report to the answer"},
        token_risks={
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_TOKEN_RISKS,
            "description": "with a report: the risk along the prompt, in at most so many numbers",
        },
    )
    return {**found, "additionalProperties": False}


def _report() -> Schema:
    return obj(
        ("policy", "version", "strategy", "mode"),
        "What was done; what was measured is left out, and `withheld` true, for some callers.",
        policy=_TEXT,
        version=_TEXT,
        strategy=_TEXT,
        mode={"enum": ["off", "shadow", "enforce"]},
        strength={"type": "number"},
        coefficient={**_NUMBER, "description": "units of the residual stream, the largest"},
        risk={**_NUMBER, "description": "0 to 1"},
        dose={**_NUMBER, "description": "share of the residual stream's length"},
        dose_limit=_NUMBER,
        rows_verified={**_COUNT, "description": "rows that the device proves to be steered"},
        gate={"anyOf": [_OBJECT, {"type": "null"}]},
        tokens=many(_OBJECT),
        tokens_omitted=_COUNT,
        arm={"enum": ["treatment", "control"]},
        withheld={"type": "boolean"},
    )

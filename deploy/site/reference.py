"""Pages of reference, written from the code: what they say is what the code reads."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

NOTE = "This page is written from the code by `make docs`.\n"
_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "minLength": "length >=",
    "maxLength": "length <=",
}


def settings() -> str:
    """The ``server:`` section of server.yaml, with its parts."""
    from refusal_server.settings import ENV_PREFIX, Settings

    sections = {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    plain = [name for name in Settings.model_fields if name not in sections]
    parts = [
        "# Settings\n",
        NOTE,
        "`server.yaml` has two parts: `server:`, the settings below, and `engine:`, vLLM's own "
        f"flags by name. The command line goes before variables (`{ENV_PREFIX}NAME`, nested ones "
        "with `__`), these before the file. `${NAME}` and `${NAME:-default}` are replaced in every "
        "text of the file.\n",
        _table(Settings, plain),
    ]
    for name, section in sections.items():
        assert section is not None
        parts += [f"## `{name}`\n", _prose(section), _table(section)]
    return "\n".join(parts)


def policy_file() -> str:
    """The policy file."""
    from refusal_server.policy.policy_file import PolicyFile, PolicyRule, TrafficSplit
    from refusal_steering.bundle.manifest import Window

    models: dict[str, type[BaseModel]] = {
        "The file": PolicyFile,
        "`policies.NAME`": PolicyRule,
        "`policies.NAME.split`": TrafficSplit,
        "`policies.NAME.window`": Window,
    }
    return _models(
        "Policy file", "`refusal-server policy schema` prints the JSON schema.\n", models
    )


def bundles() -> str:
    """The manifest of a bundle."""
    from refusal_steering.bundle import manifest
    from refusal_steering.bundle.gate_section import Gate

    models: dict[str, type[BaseModel]] = {
        "`manifest.json`": manifest.Manifest,
        "`model`": manifest.ModelIdentity,
        "`window`": manifest.Window,
        "`gate`": Gate,
        "`risk_pass`": manifest.RiskPass,
        "`grey_zone`": manifest.GreyZone,
        "`canary`": manifest.Canary,
        "`measured`": manifest.RefusedShare,
    }
    intro = (
        "A bundle is a folder with `manifest.json` and the weights that it names. "
        "`refusal-steering inspect FOLDER` shows one.\n"
    )
    return _models("Bundles", intro, models)


def metrics() -> str:
    """Our Prometheus metrics; vLLM's own stand beside them."""
    from refusal_server.telemetry.metrics import Metrics
    from refusal_server.telemetry.ops_metrics import OpsMetrics

    registry = CollectorRegistry()
    Metrics("model", registry)
    OpsMetrics("model", registry)
    rows = [
        (f"`{_exposed(metric.name, metric.type)}`", metric.type, metric.documentation)
        for metric in sorted(registry.collect(), key=lambda metric: metric.name)
    ]
    intro = (
        "On `/metrics`, beside vLLM's own (`vllm:`). Alerts and recording rules are in "
        "`deploy/prometheus/rules`, and [the runbook](../runbook.md) says what to do about them.\n"
    )
    return "\n".join(["# Metrics\n", NOTE, intro, _rows(("metric", "type", "meaning"), rows)])


def requests() -> str:
    """Every field of a request, by what it can do to steering."""
    from refusal_server.chat import fields

    by_kind: dict[str, list[str]] = {kind: [] for kind in get_args(fields.Kind)}
    for name, field in sorted(fields.FIELDS.items()):
        by_kind[field.kind].append(f"`{name}`")
    rows = [(f"`{kind}`", ", ".join(names)) for kind, names in by_kind.items() if names]
    meaning = (inspect.getsource(fields).partition('"""What a field can do.')[2]).partition('"""')[
        0
    ]
    return "\n".join(
        [
            "# Requests\n",
            NOTE,
            "`POST /v1/chat/completions` takes OpenAI's fields, vLLM's, and `steering` "
            "([quickstart](../quickstart.md)). Every field has a kind; one that is not listed is "
            "refused.\n",
            _literal(meaning),
            _rows(("kind", "fields"), rows),
            "[openapi.json](openapi.json) is the OpenAPI document of the serving port, "
            "[openapi_ops.json](openapi_ops.json) that of the ops port; a server answers its own "
            "under `/openapi.json`, to whoever has a key. Other routes: `GET /v1/models`, "
            "`POST /v1/moderations`, `GET /health`, and on the ops "
            "port `/live`, `/ready`, `/version`, `/metrics`, `/admin/*` and `/console`.\n",
        ]
    )


def errors() -> str:
    """Codes of the library's errors, with the statuses under which callers see them."""
    from refusal_server.errors import STEERING_STATUSES

    rows = [(f"`{code}`", str(status)) for code, status in sorted(STEERING_STATUSES.items())]
    return "\n".join(
        [
            "# Errors\n",
            NOTE,
            "Errors are OpenAI's object: `error` with `message`, `type`, `param` and `code`. The "
            "code is stable; messages may change. Codes of the library and the HTTP status of each "
            "(offline commands print the message and end with status 2):\n",
            _rows(("code", "status"), rows),
        ]
    )


def commands() -> str:
    """The commands of both programs."""
    from refusal_server.run.commands import COMMANDS as served
    from refusal_steering.tools.cli import COMMANDS as offline

    own = [(f"`refusal-server {name}`", _first(run)) for name, run in served.items()]
    tools = [(f"`refusal-steering {name}`", about) for name, (_, about) in offline.items()]
    return "\n".join(
        [
            "# Commands\n",
            NOTE,
            "`refusal-server [options]` serves; options are the [settings](settings.md) and vLLM's "
            "flags. Each command has `--help`, and `--json` where machines read its answer.\n",
            _rows(("command", "does"), [*own, *tools]),
            "## Exit status\n",
            _rows(
                ("status", "meaning"),
                [
                    ("0", "a clean end"),
                    (
                        "1",
                        "the engine has died (`refusal-server`), something has failed (`doctor`), "
                        "or a part could not be done and the others were (`refusal-steering`)",
                    ),
                    ("2", "a mistake in what was given, said in one line"),
                    ("130", "an end by Ctrl-C"),
                ],
            ),
            "## Completion\n",
            'In the shell\'s start file, `eval "$(refusal-server completion bash)"` (or `zsh`, '
            "`fish`) completes commands, options and files; `refusal-steering "
            "--install-completion` does so for the offline commands.\n",
        ]
    )


def openapi(ops: bool) -> str:
    """The OpenAPI document of a port, as JSON."""
    from refusal_server.http.openapi import document
    from refusal_server.routes import admin, chat, health, metrics, models, moderations
    from refusal_server.routes import openapi as own

    routers = (
        (health.router, metrics.router, admin.router, own.router)
        if ops
        else (chat.router, moderations.router, models.router, health.probe, own.router)
    )
    paths = [getattr(route, "path", "") for router in routers for route in router.routes]
    return json.dumps(document(paths), indent=2) + "\n"


FILES: Mapping[str, Callable[[], str]] = {
    "reference/openapi.json": lambda: openapi(ops=False),
    "reference/openapi_ops.json": lambda: openapi(ops=True),
}
PAGES: Mapping[str, Callable[[], str]] = {
    f"reference/{page.__name__}.md": page
    for page in (settings, policy_file, requests, errors, metrics, bundles, commands)
}


def _models(title: str, intro: str, models: Mapping[str, type[BaseModel]]) -> str:
    parts = [f"# {title}\n", NOTE, intro]
    for heading, model in models.items():
        parts += [f"## {heading}\n", _prose(model), _table(model)]
    return "\n".join(parts)


def _table(model: type[BaseModel], names: Iterable[str] | None = None) -> str:
    rows = []
    schemas = model.model_json_schema(mode="validation")
    for name in names if names is not None else model.model_fields:
        field = model.model_fields[name]
        schema = _resolved(schemas["properties"][field.alias or name], schemas)
        default = field.get_default(call_default_factory=True)
        written = "required" if default is PydanticUndefined else f"`{_plain(default)}`"
        rows.append(
            (f"`{field.alias or name}`", f"`{_type(schema)}`", written, field.description or "")
        )
    if not any(row[3] for row in rows):
        return _rows(("field", "type", "default"), [row[:3] for row in rows])
    return _rows(("field", "type", "default", "meaning"), rows)


def _resolved(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with the references in it replaced by what they refer to."""
    if "$ref" in schema:
        return _resolved(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    parts: dict[str, Any] = {
        key: [_resolved(part, whole) for part in schema[key]] for key in ("anyOf",) if key in schema
    }
    if isinstance(schema.get("items"), dict):
        parts["items"] = _resolved(schema["items"], whole)
    return {**schema, **parts}


def _type(schema: Mapping[str, Any]) -> str:
    """What JSON Schema says of a value, in one line."""
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(map(repr, schema.get("enum", [schema.get("const")])))
    kind = schema.get("type", "object")
    if kind == "array":
        inner: Mapping[str, Any] = schema.get("items") or next(
            iter(schema.get("prefixItems", ())), {}
        )
        kind = f"list of {_type(inner)}" if inner else "list"
    bounds = [f"{sign} {schema[name]:g}" for name, sign in _BOUNDS.items() if name in schema]
    return ", ".join((kind, *bounds))


def _plain(default: object) -> str:
    if isinstance(default, BaseModel):
        return "see below"
    if isinstance(default, tuple):
        return f"[{', '.join(map(str, default))}]"
    return "none" if default is None else str(default)


def _prose(model: type[BaseModel]) -> str:
    return _literal(inspect.cleandoc(model.__doc__ or ""))


def _literal(text: str) -> str:
    return inspect.cleandoc(text).replace("``", "`") + "\n"


def _first(run: Callable[..., object]) -> str:
    return (inspect.getdoc(run) or "").partition("\n")[0].replace("``", "`")


def _exposed(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

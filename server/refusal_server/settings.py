"""The server's own settings: command line over environment over YAML over defaults."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    CliUnknownArgs,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from refusal_server.files.yaml_file import (
    FileError,
    first_problem,
    nearest,
    read_mapping,
    read_text,
)
from refusal_steering.directive import MAX_TOKEN_RISKS

ENV_PREFIX = "REFUSAL_SERVER_"
# As browsers write them, without the ports that go without saying.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_POLICY_URL = re.compile(
    r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/[^\s#]*", re.IGNORECASE
)
_STORE_URL = re.compile(
    r"rediss?://([^\s/?#@:]+@)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?(/[0-9]{1,4})?/?",
    re.IGNORECASE,
)
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_PATHS = (
    *("policy_file", "policy_token_file", "api_key_file", "keys_file", "admin_key_file"),
    "store_password_file",
)
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Limits(_Section):
    """What one request may cost before the engine sees it.

    ``xargs`` and ``template_arguments`` are the keys of ``vllm_xargs`` and ``chat_template_kwargs``
    that callers may set. ``listed_tokens`` bounds the lists of stop texts, banned words and biased
    tokens, ``allowed_tokens`` the list of allowed ones. ``json_values`` and ``json_depth`` bound
    the structure of a body. ``grammar_chars``, ``grammar_choices``, ``grammar_repeats`` and
    ``regex_chars`` bound one grammar; ``grammars`` may be on their way to their first token at a
    time, ``grammars_per_key`` of one API key. ``report_tokens`` are those of the answer in a
    report, ``token_risks`` how many numbers it may tell of the risk along the prompt.
    """

    body_bytes: PositiveInt = 16 * 2**20
    """Most bytes of a request body."""
    body_seconds: PositiveFloat = 30.0
    """Most seconds in which a body must arrive."""
    header_bytes: int = Field(default=32 * 2**10, ge=2**10)
    """Most bytes of a request header."""
    header_seconds: PositiveFloat = 15.0
    """Most seconds in which a header must arrive."""
    write_seconds: PositiveFloat = 60.0
    """Most seconds that a caller may leave an answer unread."""
    default_max_tokens: PositiveInt = 1024
    """Tokens of an answer where the request names no limit."""
    choices: PositiveInt = 8
    """Most choices of one request (n)."""
    report_tokens: PositiveInt = 256
    """Most tokens of the answer in a report."""
    token_risks: int = Field(default=1024, ge=1, le=MAX_TOKEN_RISKS)
    """Most numbers of the risk along a prompt."""
    xargs: tuple[str, ...] = ()
    """Keys of vllm_xargs that callers may set."""
    template_arguments: tuple[str, ...] = ("enable_thinking", "thinking", "reasoning_effort")
    """Keys of chat_template_kwargs that callers may set."""
    stream_interval: PositiveInt = 64
    """Largest stream_interval."""
    min_tokens: int = Field(default=8192, ge=0)
    """Largest min_tokens."""
    tools: PositiveInt = 128
    """Most tools of one request."""
    listed_tokens: PositiveInt = 300
    """Most stop texts, banned words or biased tokens."""
    allowed_tokens: PositiveInt = 4096
    """Most tokens in allowed_token_ids."""
    repetition_penalty: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)
    """Smallest and largest repetition_penalty."""
    grammar_chars: PositiveInt = 65_536
    """Most characters of JSON in a grammar."""
    grammar_choices: PositiveInt = 1000
    """Most choices and enumerated values of a grammar."""
    grammar_repeats: PositiveInt = 4000
    """Most counted repeats of a grammar."""
    regex_chars: PositiveInt = 4096
    """Most characters of a regular expression."""
    grammars: PositiveInt = 64
    """Requests with grammars before their first token, of all callers."""
    grammars_per_key: PositiveInt = 16
    """The same of one API key."""
    json_values: int = Field(default=100_000, ge=100)
    """Most values in a JSON body."""
    json_depth: int = Field(default=64, ge=8, le=200)
    """Deepest nesting of a JSON body."""


class Media(_Section):
    """What images, audio and videos may be, and from where they may be fetched.

    Media are read by processes apart from the server: at most ``workers`` for images and audio,
    and as many for videos. One medium may take ``read_seconds`` of processor time (twice as long
    by the clock) and add ``read_bytes`` to a process. A medium that has waited ``wait_seconds``
    for a process is turned away.
    """

    domains: tuple[str, ...] = ()
    """Hosts that media may be fetched from; none by default."""
    private_addresses: bool = False
    """Whether media may be fetched from private addresses."""
    fetch_seconds: PositiveFloat = 8.0
    """Most seconds to fetch one medium."""
    item_bytes: PositiveInt = 12 * 2**20
    """Most bytes of one medium."""
    image_pixels: PositiveInt = 16_000_000
    """Most pixels of an image."""
    audio_seconds: PositiveInt = 120
    """Most seconds of audio."""
    audio_rate: PositiveInt = 192_000
    """Highest sample rate."""
    audio_channels: PositiveInt = 8
    """Most channels of audio."""
    video_seconds: PositiveInt = 120
    """Most seconds of a video."""
    video_frames: PositiveInt = 7200
    """Most frames of a video."""
    video_pixels: PositiveInt = 4_000_000
    """Most pixels of a frame."""
    workers: PositiveInt = 2
    """Processes that read images and audio, and as many for videos."""
    read_seconds: PositiveFloat = 20.0
    """Processor seconds to read one medium."""
    read_bytes: PositiveInt = 512 * 2**20
    """Memory that one medium may add to a process."""
    wait_seconds: PositiveFloat = 10.0
    """Most seconds that a medium waits for a process."""


class Passes(_Section):
    """The server's own short requests to the model: risk passes and drafts.

    ``visual_contexts`` is how many pictures and videos are remembered by what was seen in them.
    A constrained or thinking request is drafted with ``draft_tokens`` tokens; if the draft is a
    refusal, the caller reads ``refusal``.
    """

    visual_contexts: PositiveInt = 1024
    """Pictures and videos whose contexts are remembered."""
    draft_tokens: int = Field(default=24, ge=4, le=256)
    """Tokens of the draft of a constrained or thinking request."""
    refusal: str = Field(
        default="I'm sorry, but I can't help with that.", min_length=1, max_length=1000
    )
    """What the caller reads where a draft refuses."""


class Audit(_Section):
    """The audit log: one JSON line per steered request, denied attempt and admin change.

    ``file`` is a path, or ``-`` for standard output; no log without it. ``backups`` full files of
    ``max_bytes`` are kept beside it. ``salt_file`` keys the digests of prompts; ``<file>.salt``
    by default, made if it is missing. ``prompts`` also writes what was asked and how the answer
    begins, at most ``prompt_chars`` characters each, through ``redaction``
    (``package.module:function``).
    """

    file: str | None = Field(default=None, min_length=1)
    """Path of the log, or - for standard output; no log without it."""
    max_bytes: int = Field(default=64 * 2**20, ge=4096)
    """Size at which a new file is begun."""
    backups: int = Field(default=8, ge=0, le=1000)
    """Full files that are kept."""
    queue_size: int = Field(default=8192, ge=1, le=1_000_000)
    """Lines that may wait to be written."""
    salt_file: Path | None = None
    """Key of the prompts' digests."""
    prompts: bool = False
    """Whether prompts and answers are written."""
    prompt_chars: PositiveInt = 4000
    """Most characters of each."""
    redaction: str = "refusal_server.telemetry.audit.redaction:redact"
    """What is written of them, as package.module:function."""

    @model_validator(mode="after")
    def _streams_have_a_salt(self) -> Self:
        if self.file == "-" and self.salt_file is None:
            raise ValueError("audit to standard output needs a salt_file")
        return self


class Detection(_Section):
    """Refusal detectors besides the lexical one, which sees every answer.

    ``minilm_share`` of the answers are also judged by the sentence encoder, in the background;
    ``queue_size`` of them may wait.
    """

    minilm_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of answers that the sentence encoder judges too."""
    queue_size: int = Field(default=256, ge=1, le=100_000)
    """Answers that may wait for it."""


class Moderation(_Section):
    """``POST /v1/moderations``: what risk is flagged, and how many inputs one call may bring."""

    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Risk above which an input is flagged."""
    inputs: PositiveInt = 32
    """Most inputs of one call."""


class Settings(BaseSettings):
    """Everything that is fixed from start to stop; the steering policy is its own file."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        cli_prog_name="refusal-server",
        cli_kebab_case=True,
        use_attribute_docstrings=True,
        cli_implicit_flags=True,
        cli_ignore_unknown_args=True,
        cli_hide_none_type=True,
    )

    config: Path | None = Field(default=None, description="YAML file with `server:` and `engine:`")
    host: str = "127.0.0.1"
    """Address of the serving port."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The serving port; 0 takes a free one."""
    api_server_count: int = Field(
        default=1, ge=1, le=64, description="processes that answer callers, before one engine"
    )
    policy_file: Path | None = Field(default=None, description="the steering policy, required")
    policy_url: str | None = Field(
        default=None, description="where a fleet's policy is asked for; policy_file has the copy"
    )
    policy_token_file: Path | None = None
    """File with the bearer token for policy_url."""
    policy_poll_seconds: float = Field(
        default=10.0, ge=1.0, le=600.0, description="seconds between two questions to policy_url"
    )
    api_key: SecretStr | None = Field(default=None, description="prefer api_key_file")
    api_key_file: Path | None = None
    """File with the one API key."""
    keys_file: Path | None = Field(default=None, description="YAML list of API keys by hash")
    store_url: str | None = Field(
        default=None, description="Valkey or Redis where replicas count budgets and places together"
    )
    store_password_file: Path | None = None
    """File with the password for store_url."""
    ops_host: str = "127.0.0.1"
    """Address of the ops port."""
    ops_port: int | None = Field(
        default=None, ge=0, le=65535, description="own port for metrics, health and /admin"
    )
    admin_key: SecretStr | None = Field(default=None, description="prefer admin_key_file")
    admin_key_file: Path | None = None
    """File with the key of /admin and the console."""
    ready_interval_seconds: PositiveFloat = 30.0
    """Seconds without an answer after which the server asks itself."""
    ready_patience_seconds: PositiveFloat = 20.0
    """Seconds in which that must be answered."""
    policy_history: int = Field(default=10, ge=0, le=1000, description="versions to roll back to")
    recent_requests: int = Field(default=200, ge=1, le=10_000)
    """Requests and denials that the console remembers."""
    drain_seconds: PositiveInt = 30
    """Seconds that answers in flight have after SIGTERM."""
    cors_origins: tuple[str, ...] = Field(
        default=(), description="origins of pages that may call from a browser; '*' for all"
    )
    log_format: Literal["text", "json"] = "text"
    """Text or json, for this server, uvicorn and vLLM."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Of this server and vLLM."""
    limits: Limits = Limits()
    media: Media = Media()
    passes: Passes = Passes()
    audit: Audit = Audit()
    detection: Detection = Detection()
    moderation: Moderation = Moderation()
    engine: dict[str, Any] = Field(default={}, description="vLLM flags by name")
    engine_args: CliUnknownArgs = Field(default=[], description="vLLM flags as typed")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over YAML, which arrives as the arguments of the constructor."""
        return env_settings, init_settings

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_write_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_origin, origins))

    @field_validator("policy_url")
    @classmethod
    def _names_a_host(cls, url: str | None) -> str | None:
        if url is not None and _POLICY_URL.fullmatch(url) is None:
            raise ValueError(
                "write http://host:port/path or https://host/path, without a name or password; a "
                "token goes into policy_token_file"
            )
        return url

    @field_validator("store_url")
    @classmethod
    def _names_a_store(cls, url: str | None) -> str | None:
        if url is not None and _STORE_URL.fullmatch(url) is None:
            raise ValueError(
                "write redis://host:port/0, or rediss:// with TLS, with a user's name at most; a "
                "password goes into store_password_file"
            )
        return url

    @model_validator(mode="after")
    def _files_have_a_use(self) -> Self:
        if self.policy_url is not None and self.policy_file is None:
            raise ValueError("policy_url needs policy_file, where the copy of the policy is kept")
        if self.policy_url is None and self.policy_token_file is not None:
            raise ValueError("policy_token_file is for policy_url, which is not set")
        if self.store_url is None and self.store_password_file is not None:
            raise ValueError("store_password_file is for store_url, which is not set")
        user = None if self.store_url is None else urlsplit(self.store_url).username
        if user is not None and self.store_password_file is None:
            raise ValueError("store_url has a user's name; name their store_password_file, too")
        return self

    @property
    def key(self) -> str | None:
        """The API key that callers must present, if any; raises :class:`FileError`."""
        return _secret("API", self.api_key, self.api_key_file)

    @property
    def admin(self) -> str | None:
        """The key of the admin routes, if any; raises :class:`FileError`."""
        return _secret("admin", self.admin_key, self.admin_key_file)


def _origin(text: str) -> str:
    """An origin that can be compared with what browsers send; raises ``ValueError``."""
    if text in ("*", "null"):
        return text
    found = _ORIGIN.fullmatch(text.lower().removesuffix("/"))
    if found is None:
        raise ValueError(
            f"{text!r} is not an origin: write scheme://host, with :port if it has one"
        )
    scheme, host, port = found.groups()
    return f"{scheme}://{host}{'' if port == _USUAL_PORTS.get(scheme) else port or ''}"


def _secret(kind: str, given: SecretStr | None, path: Path | None) -> str | None:
    if path is not None:
        secret = read_text(path).strip()
    elif given is not None:
        secret = given.get_secret_value()
    else:
        return None
    if not secret:
        raise FileError(f"the {kind} key is empty; remove the setting to do without one")
    return secret


def load_settings(argv: Sequence[str]) -> Settings:
    """Read all sources; raises :class:`FileError` with one line for the operator."""
    _refuse_unknown_variables(os.environ)
    path = _config_path(argv)
    values = {} if path is None else _read_config(path)

    class _WithCommandLine(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            lower = super().settings_customise_sources(settings_cls, *sources, **named)
            return CliSettingsSource(settings_cls, cli_parse_args=list(argv)), *lower

    try:
        return _WithCommandLine(**values)
    except ValidationError as error:
        raise FileError(f"the settings are invalid: {first_problem(error, _names())}") from error


def _config_path(argv: Sequence[str]) -> Path | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default=os.environ.get(ENV_PREFIX + "CONFIG"))
    named = parser.parse_known_args(list(argv))[0].config
    return Path(named) if named else None


def _read_config(path: Path) -> dict[str, Any]:
    content = _expand(read_mapping(path))
    unknown = [key for key in content if key not in ("server", "engine")]
    if unknown:
        hint = nearest(unknown[0], ("server", "engine"))
        raise FileError(f"{path}: unknown key {unknown[0]!r}.{hint} It takes `server`, `engine`.")
    server, engine = content.get("server") or {}, content.get("engine") or {}
    if not isinstance(server, dict) or not isinstance(engine, dict):
        raise FileError(f"{path}: `server` and `engine` must be mappings")
    for key in _PATHS:
        if isinstance(server.get(key), str):
            server[key] = str(path.parent / Path(server[key]).expanduser())
    return {**server, "engine": engine}


def _expand(value: Any) -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}`` in every text."""
    if isinstance(value, dict):
        return {key: _expand(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: os.environ.get(m[1]) or m[2] or "", value)
    return value


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    for variable in environment:
        if variable.startswith(ENV_PREFIX) and variable.split("__")[0] not in known:
            raise FileError(f"unknown variable {variable}.{nearest(variable, known)}")


def _names() -> list[str]:
    sections = (Limits, Media, Passes, Audit, Detection, Moderation)
    return [*Settings.model_fields, *(name for s in sections for name in s.model_fields)]

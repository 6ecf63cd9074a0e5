"""The audit log that the settings ask for."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from refusal_server.settings import Audit
from refusal_server.telemetry.audit.locked_sink import LockedSink
from refusal_server.telemetry.audit.log import AuditLog, redacted
from refusal_server.telemetry.audit.prompt_digest import PromptDigest, load_salt
from refusal_server.telemetry.audit.redaction import load_redaction
from refusal_server.telemetry.audit.rotating_file import LineSink, RotatingFile, StreamSink
from refusal_server.telemetry.audit.writer import AuditMetrics, AuditWriter
from refusal_steering.errors import SteeringError

STDOUT = "-"


class AuditFileError(SteeringError):
    """The audit log's file cannot be written."""

    code = "audit_file"


def check_audit(settings: Audit) -> None:
    """Find out before anything is loaded; raises a ``SteeringError`` for file, salt or hook."""
    if settings.file is None:
        return
    load_redaction(settings.redaction)
    if settings.file != STDOUT:
        try:
            with Path(settings.file).open("ab"):
                pass
        except OSError as error:
            raise AuditFileError(
                f"the audit log {settings.file} cannot be written: {error.strerror}; name another "
                "audit.file"
            ) from error
    load_salt(_salt_file(settings))


def build_audit(
    settings: Audit, metrics: AuditMetrics, lock: Path | None = None
) -> AuditLog | None:
    """``None`` where no log is asked for; raises a ``SteeringError`` for a bad salt or hook.

    Several processes write one log if they name the same ``lock``.
    """
    if settings.file is None:
        return None
    sink: LineSink
    if settings.file == STDOUT:
        sink = StreamSink(sys.stdout.fileno())
    else:
        path, size = Path(settings.file), settings.max_bytes
        sink = RotatingFile(path, size, settings.backups, shared=lock is not None)
    if lock is not None:
        sink = LockedSink(sink, lock)
    writer = AuditWriter(
        sink,
        metrics,
        queue_size=settings.queue_size,
        finish=partial(redacted, redaction=load_redaction(settings.redaction)),
    )
    digest = PromptDigest(load_salt(_salt_file(settings)))
    return AuditLog(writer, digest, prompts=settings.prompts, prompt_chars=settings.prompt_chars)


def _salt_file(settings: Audit) -> Path:
    if settings.salt_file is not None:
        return settings.salt_file
    assert settings.file is not None
    return Path(f"{settings.file}.salt")

"""What must be right before an engine is worth starting."""

from __future__ import annotations

import os
import resource
import socket

from refusal_server.access.key_file import Keyring, load_keyring
from refusal_server.media.worker.protocol import SAMPLE_BYTES, SAMPLE_RATE
from refusal_server.policy.remote.policy_url import read_token
from refusal_server.settings import Settings

# What a busy server opens: connections, the engine's queues, files that it watches.
OPEN_FILES = 4096
FEWEST_OPEN_FILES = 512


class StartupError(Exception):
    """The server cannot start; the message is one line that says what to do."""


def raise_open_files(wanted: int = OPEN_FILES) -> None:
    """Raise this process's limit of open files as far as it may be; a low one is a start error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    best = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, best), hard))
    if best < FEWEST_OPEN_FILES:
        raise StartupError(
            f"only {best} files may be open at once, expected at least {FEWEST_OPEN_FILES}; raise "
            f"the limit, as with `ulimit -n {wanted}`"
        )


def bind_for(count: int, host: str, port: int) -> list[socket.socket]:
    """Take the port for so many processes; the kernel spreads connections over those that listen.

    As :func:`bind`, for each of them.
    """
    listeners: list[socket.socket] = []
    try:
        while len(listeners) < count:
            taken = listeners[0].getsockname()[1] if listeners else port
            listeners.append(bind(host, taken, shared=count > 1))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def bind(host: str, port: int, option: str = "--port", *, shared: bool = False) -> socket.socket:
    """Take the port now, not after minutes of loading; nobody can connect before it listens.

    Raises :class:`StartupError`. A ``shared`` port can be bound again by this user.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        _refuse_shared_port(listener, host, family)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another "
            f"{option}"
        ) from error
    return listener


def _refuse_shared_port(listener: socket.socket, host: str, family: int) -> None:
    # SO_REUSEADDR lets two servers bind as long as neither listens; whoever listens first wins.
    port = listener.getsockname()[1]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        if probe.connect_ex((reachable(host), port)) == 0:
            raise OSError(None, "the port is in use")


def reachable(host: str) -> str:
    """Where this machine finds what listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)


def check_ports(settings: Settings) -> None:
    """Refuse one port for both callers and operators."""
    if settings.ops_port is not None and settings.ops_port == settings.port != 0:
        raise StartupError(
            f"port and ops_port are both {settings.port}; the ops port is for operators alone, "
            "choose another --ops-port"
        )


def check_keys(settings: Settings) -> None:
    """Read every key now; raises :class:`FileError` or :class:`StartupError`."""
    if settings.policy_token_file is not None:
        read_token(settings.policy_token_file)
    key, admin = settings.key, settings.admin
    keyring = Keyring() if settings.keys_file is None else load_keyring(settings.keys_file)
    if admin is None:
        return
    if settings.ops_port is None:
        raise StartupError("an admin key needs the ops port, where it is used; set --ops-port")
    if keyring.plus(key).admit(admin.encode()) is not None:
        raise StartupError("the admin key is also an API key; make another one")


def check_store(settings: Settings) -> None:
    """Refuse a store that nothing here can talk to; whether it answers is not asked.

    Raises :class:`FileError`, or ``ModuleNotFoundError`` without the extra that brings its client.
    """
    if settings.store_url is None:
        return
    from refusal_server.access.fleet_store import read_password

    if settings.store_password_file is not None:
        read_password(settings.store_password_file)


def prepare_environment(settings: Settings) -> None:
    """Set vLLM's variables before it is imported; what the operator has set stays."""
    media = settings.media
    longest_wav = (media.audio_seconds + 1) * SAMPLE_RATE * SAMPLE_BYTES
    if os.environ.get("VLLM_SERVER_DEV_MODE", "0") != "0":
        raise StartupError("VLLM_SERVER_DEV_MODE is set; unset it, it is not for servers")
    for name, value in {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_MEDIA_FETCH_MAX_RETRIES": "1",
        "VLLM_MAX_N_SEQUENCES": str(settings.limits.choices),
        "VLLM_MAX_IMAGE_PIXELS": str(media.image_pixels),
        "VLLM_MAX_AUDIO_DECODE_DURATION_S": str(media.audio_seconds),
        "VLLM_MAX_AUDIO_CLIP_FILESIZE_MB": str(1 + longest_wav // 2**20),
    }.items():
        os.environ.setdefault(name, value)

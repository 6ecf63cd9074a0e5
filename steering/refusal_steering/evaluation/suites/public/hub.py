"""Files of public data sets from the Hugging Face hub, at a commit."""

from __future__ import annotations

import importlib
from pathlib import Path

from refusal_steering.errors import SuiteUnavailableError


def fetch(repo: str, file: str, revision: str) -> tuple[Path, str]:
    """One file of a data-set repository, through the hub's own cache: its path and its commit.

    Raises :class:`SuiteUnavailableError` with the hub's reason; the caller knows where a local
    copy may lie.
    """
    try:
        library = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise SuiteUnavailableError("the library huggingface_hub is not installed") from error
    try:
        found = library.hf_hub_download(repo, file, repo_type="dataset", revision=revision)
    # No network, no such file, no right to a gated set, a full disk: one remedy for all of them.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise SuiteUnavailableError(
            f"the hub did not give {file} of {repo} ({type(error).__name__}: {reason})"
        ) from error
    path = Path(found)
    # The cache keeps a file under .../snapshots/<commit>/<file>.
    commit = path.parts[path.parts.index("snapshots") + 1] if "snapshots" in path.parts else ""
    return path, commit or revision

"""No folder of the packages has more modules than a reader can take in at once."""

from __future__ import annotations

from pathlib import Path

from tests.needs import ROOT

MOST = 12
# Larger ones, each with the reason why it is not divided.
LARGER = {
    "server/refusal_server/media/worker": "one process: all of it is loaded before it is sealed",
    "server/refusal_server/run": "start, readiness and end of one process",
    "steering/refusal_steering/tools": "one module for each command of the command line",
    "steering/refusal_steering/vllm_plugin": "each module stands where vLLM is touched",
}


def modules(folder: Path) -> int:
    return sum(path.name != "__init__.py" for path in folder.glob("*.py"))


def test_folders_are_small_unless_a_reason_is_given() -> None:
    packages = (ROOT / "server" / "refusal_server", ROOT / "steering" / "refusal_steering")
    folders = [folder for package in packages for folder in (package, *package.rglob("*/"))]
    large = {str(f.relative_to(ROOT)) for f in folders if modules(f) > MOST}
    assert large == set(LARGER)

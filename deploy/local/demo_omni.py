"""Let the demo model take images, audio and video, through towers that are trained or random.

    .venv/bin/python deploy/local/demo_omni.py [--print-path]

Beside the demo model's folder it makes another, in which the same weights are the text backbone of
Qwen2.5-Omni's class. On text the two give the same answers. A tower in ``deploy/demo/towers`` is
used as it was trained; its card says what it can do. A medium without one is NOISE to this model,
of the right shape and size. ``REFUSAL_STEERING_DEMO_MODEL`` names a folder that is served as it is
instead, and ``REFUSAL_STEERING_CACHE`` moves the cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import demo_model
import omni_files
import omni_weights
import towers
from console import Progress, SetupError, exclusive, say

SUFFIX = "-omni"
# Raise it whenever a folder made by an earlier version of these scripts should be made anew.
VERSION = 2
SEED = 0
MEDIA = {
    omni_files.SEES: ("drawings of some two hundred things are seen", "images and video are noise"),
    omni_files.SPEECH: ("speech of a few hundred English words is heard", "audio is noise"),
}
"""By tower: what the model makes of its media when it is trained, and when it is random."""


def main() -> int:
    """Make sure that the model is there; return a process exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--print-path", action="store_true", help="write only the folder's path")
    arguments = parser.parse_args()
    try:
        path = demo_model.overridden() or ensure(demo_model.ensure(demo_model.cache_dir()))
    except SetupError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run this again to go on")
        return 130
    if arguments.print_path:
        sys.stdout.write(f"{path}\n")
    else:
        say(f"demo model with media: ready in {path} ({media()})")
    return 0


def ensure(plain: Path) -> Path:
    """Return the folder with media beside the plain one, making it anew if that has changed."""
    target = plain.with_name(plain.name + SUFFIX)
    origin = _origin(plain)
    if is_current(target, origin):
        return target
    with exclusive(target.parent / ".lock", "demo model with media"):
        if not is_current(target, origin):
            _make(plain, target, origin)
    return target


def media() -> str:
    """What the model makes of media, in words."""
    said = (trained if towers.find(name) else noise for name, (trained, noise) in MEDIA.items())
    return "; ".join(said)


def is_current(folder: Path, origin: dict[str, Any]) -> bool:
    """Tell whether the folder was made by these scripts from that origin."""
    source = folder / demo_model.SOURCE_FILE
    return source.is_file() and bool(json.loads(source.read_text("utf-8")) == origin)


def _origin(plain: Path) -> dict[str, Any]:
    source = json.loads((plain / demo_model.SOURCE_FILE).read_text("utf-8"))
    trained = {name: tower.digest for name in omni_weights.TRAINED if (tower := towers.find(name))}
    return {
        "version": VERSION,
        "media": media(),
        "towers": trained,
        "seed": SEED,
        "backbone": source,
    }


def _make(plain: Path, target: Path, origin: dict[str, Any]) -> None:
    progress = Progress("demo model: adding towers for images, audio and video")
    work = Path(tempfile.mkdtemp(prefix=demo_model.PARTIAL, dir=target.parent))
    try:
        folder = work / "model"
        folder.mkdir()
        config = omni_files.write(plain, folder)
        omni_weights.write(plain, folder, config, SEED)
        (folder / demo_model.SOURCE_FILE).write_text(json.dumps(origin, indent=2) + "\n", "utf-8")
        if target.exists():
            target.rename(work / "outdated")
        folder.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress.finish()


if __name__ == "__main__":
    sys.exit(main())

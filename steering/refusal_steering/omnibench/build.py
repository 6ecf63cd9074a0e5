"""Renders a whole folder: one JSONL file per combination, the media, and a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from refusal_steering.atomic_file import write_atomically
from refusal_steering.errors import OmnibenchError
from refusal_steering.omnibench import picture
from refusal_steering.omnibench.combos import COMBOS, Case, Clip, case_of
from refusal_steering.omnibench.facts import facts_of, tools
from refusal_steering.omnibench.media import Studio
from refusal_steering.omnibench.rows import Rows, load_rows
from refusal_steering.omnibench.speech import Speaker

MANIFEST_FILE = "manifest.json"
_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run made. ``skipped`` maps a combination to the number of rows that lack a part.

    ``shrunk`` maps image and video files to the font size in pixels that made the text fit.
    """

    rows: int
    counts: Mapping[str, int]
    skipped: Mapping[str, int]
    shrunk: Mapping[str, int]

    def lines(self) -> list[str]:
        """The outcome in words, one line per combination and one for shrunk text."""
        lines = [f"{name}: {count} cases" for name, count in self.counts.items()]
        lines += [
            f"{name}: skipped {count} of {self.rows} rows without {COMBOS[name].needs}"
            for name, count in self.skipped.items()
        ]
        if self.shrunk:
            lines.append(f"{len(self.shrunk)} files have text below {picture.FULL_SIZE} px")
        return lines


def build(
    source: Path, root: Path, combos: Sequence[str] | None = None, limit: int | None = None
) -> Outcome:
    """Render the first ``limit`` rows of ``source`` in ``combos`` (None: all) into ``root``.

    The manifest is written last; its checksums tell whether the folder is whole. Raises
    :class:`OmnibenchError`, and :class:`SpeechUnavailableError` when audio is asked for and
    espeak-ng is missing.
    """
    names = _checked(combos)
    rows = load_rows(source, limit)
    plan = _plan(rows, names)
    _refuse_leftovers(root, {name for name, cases in plan.items() if cases})
    clips = _clips(plan)
    speaker = Speaker.find() if any(clip.medium == "audio" for clip in clips) else None
    studio = Studio(root, _known_files(root), speaker)
    paths = {clip: studio.path_of(clip) for clip in clips}
    files = {
        paths[clip]: studio.make(clip)
        for clip in tqdm(clips, desc="omnibench", unit="file", disable=None)
    }
    outcome = _outcome(rows, plan, paths)
    manifest = {
        **_manifest(rows, limit, outcome),
        "tools": tools(speaker),
        "media": {clip.medium: facts_of(clip.medium, speaker) for clip in clips},
        "files": {**files, **_write_lists(root, plan, paths)},
    }
    write_atomically(root / MANIFEST_FILE, _pretty(manifest))
    return outcome


def _checked(combos: Sequence[str] | None) -> list[str]:
    unknown = sorted(set(combos or ()) - set(COMBOS))
    if unknown or (combos is not None and not combos):
        given = f"unknown combinations {unknown}" if unknown else "no combination is given"
        raise OmnibenchError(f"{given}; expected some of {', '.join(COMBOS)}")
    return [name for name in COMBOS if combos is None or name in combos]


def _plan(rows: Rows, names: Sequence[str]) -> dict[str, list[Case]]:
    plan = {
        name: [case for row in rows.rows if (case := case_of(row, COMBOS[name]))] for name in names
    }
    if not any(plan.values()):
        needs = "; ".join(f"{name} needs {COMBOS[name].needs}" for name in names)
        raise OmnibenchError(f"no row has what the combinations need: {needs}")
    return plan


def _clips(plan: Mapping[str, Sequence[Case]]) -> list[Clip]:
    """Every clip once, in the order of the plan."""
    return list(
        dict.fromkeys(clip for cases in plan.values() for case in cases for clip in case.clips)
    )


def _refuse_leftovers(root: Path, coming: set[str]) -> None:
    stale = sorted(f"{name}.jsonl" for name in set(COMBOS) - coming)
    found = [name for name in stale if (root / name).exists()]
    if found:
        raise OmnibenchError(
            f"{root} holds {', '.join(found)} of another run, which this run would not renew; use "
            "the same combinations and input again, or another folder"
        )


def _known_files(root: Path) -> dict[str, str]:
    """Checksums by path from the manifest of an earlier run; empty without one."""
    path = root / MANIFEST_FILE
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_bytes())
        return {str(name): str(digest) for name, digest in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OmnibenchError(
            f"{path} is not a manifest of this tool ({error!r}); use another folder"
        ) from error


def _write_lists(
    root: Path, plan: Mapping[str, Sequence[Case]], paths: Mapping[Clip, str]
) -> dict[str, str]:
    """Write one file per combination that has cases; returns their checksums by name."""
    lists = {f"{name}.jsonl": _jsonl(name, cases, paths) for name, cases in plan.items() if cases}
    for name, content in lists.items():
        write_atomically(root / name, content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in lists.items()}


def _jsonl(name: str, cases: Sequence[Case], paths: Mapping[Clip, str]) -> bytes:
    lines = [
        json.dumps(
            {
                "id": case.row.id,
                "label": case.row.label,
                "combo": name,
                "messages": case.messages([paths[clip] for clip in case.clips]),
            },
            ensure_ascii=False,
        )
        for case in cases
    ]
    return ("\n".join(lines) + "\n").encode()


def _outcome(rows: Rows, plan: Mapping[str, Sequence[Case]], paths: Mapping[Clip, str]) -> Outcome:
    total = len(rows.rows)
    sizes = {
        path: picture.lay_out(clip.text).size
        for clip, path in paths.items()
        if clip.medium != "audio"
    }
    return Outcome(
        rows=total,
        counts={name: len(cases) for name, cases in plan.items()},
        skipped={name: total - len(cases) for name, cases in plan.items() if len(cases) < total},
        shrunk={path: size for path, size in sizes.items() if size < picture.FULL_SIZE},
    )


def _manifest(rows: Rows, limit: int | None, outcome: Outcome) -> dict[str, Any]:
    return {
        "format_version": _FORMAT_VERSION,
        "input": {"sha256": rows.sha256, "rows": outcome.rows, "limit": limit},
        "counts": dict(outcome.counts),
        "skipped": {
            name: {"rows": count, "without": COMBOS[name].needs}
            for name, count in outcome.skipped.items()
        },
        "shrunk": dict(outcome.shrunk),
    }


def _pretty(manifest: Mapping[str, Any]) -> bytes:
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode()

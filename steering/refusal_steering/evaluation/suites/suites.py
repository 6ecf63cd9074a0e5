"""Suites by name: the contrast set, unseen families, files, rendered folders, public data."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from refusal_steering.detection.detector import Detector
from refusal_steering.detection.languages import LanguagesDetector
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.case import Case, Label, Message, parse_label
from refusal_steering.evaluation.scoring.rubric_name import RubricName
from refusal_steering.evaluation.suites.checksums import SourceFile
from refusal_steering.evaluation.suites.draft import Draft, pick
from refusal_steering.evaluation.suites.forms import Split, chosen_template, in_form
from refusal_steering.evaluation.suites.media import without_paths
from refusal_steering.evaluation.suites.public.cases import public_drafts
from refusal_steering.evaluation.suites.public.files import find_files
from refusal_steering.evaluation.suites.public.public_set import PublicSet
from refusal_steering.evaluation.suites.public.sets import PUBLIC_SETS
from refusal_steering.evaluation.suites.rendered import rendered_drafts, rendered_files
from refusal_steering.evaluation.suites.requested import requested_drafts
from refusal_steering.evaluation.suites.rows import Row, read_rows
from refusal_steering.evaluation.suites.suite_spec import SuiteSpec
from refusal_steering.evaluation.suites.unseen.part import Part, UnseenCase, unseen_cases
from refusal_steering.prompts import contrast_set
from refusal_steering.prompts.contrast_set import (
    FORMS,
    Item,
    load_items,
    new_templates,
    render,
)
from refusal_steering.prompts.prompt_file import columns_found, says_something

_log = logging.getLogger(__name__)

SUITES = ("contrast", "unseen", "file", "media", "omnibench", *PUBLIC_SETS)


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases and where they came from; ``available`` is how many there were before a limit.

    ``expected`` is how many a whole copy of a public set gives. ``in_languages`` is whether
    requests are in other languages than English too, ``rubric`` how a judge grades answers.
    """

    name: str
    spec: str
    cases: tuple[Case, ...]
    sources: tuple[SourceFile, ...]
    available: int
    expected: int | None = None
    in_languages: bool = False
    rubric: RubricName = "three-way"

    @property
    def detector(self) -> Detector:
        """Tells refusals from answers without a judge."""
        return LanguagesDetector() if self.in_languages else LexicalDetector()

    def to_json(self) -> dict[str, Any]:
        """For the results file; ``cases_sha256`` covers every message that is sent."""
        return {
            "name": self.name,
            "spec": self.spec,
            "rubric": self.rubric,
            "cases": len(self.cases),
            "available": self.available,
            "expected": self.expected,
            "cases_sha256": _digest(self.cases),
            "sources": [source.to_json() for source in self.sources],
        }


def load_suite(spec: SuiteSpec, data_dir: Path | None = None, limit: int | None = None) -> Suite:
    """The cases of one suite, at most ``limit`` of them (see :func:`~.draft.pick`).

    Raises :class:`EvaluationError` for an unknown name or a file that does not fit, and
    :class:`SuiteUnavailableError` where the data are not available.
    """
    if limit is not None and limit < 1:
        raise EvaluationError(f"a limit of {limit} cases leaves nothing to evaluate")
    if spec.name == "contrast":
        return _contrast(spec, limit)
    if spec.name == "unseen":
        return _unseen(spec, limit)
    if spec.name == "file":
        return _file(spec, limit)
    if spec.name == "media":
        return _requested(spec, limit)
    if spec.name == "omnibench":
        return _rendered(spec, limit)
    if spec.name not in PUBLIC_SETS:
        raise EvaluationError(f"suite {spec.name!r} is unknown; there are {', '.join(SUITES)}")
    return _public(PUBLIC_SETS[spec.name], spec, data_dir, limit)


def _contrast(spec: SuiteSpec, limit: int | None) -> Suite:
    if spec.path or spec.label:
        raise EvaluationError("suite 'contrast' is part of this package; it takes only ?forms=")
    items = [item for item in load_items() if item.split == "held"]
    drafts = [draft for item in items for draft in _contrast_drafts(item, spec.forms or FORMS)]
    source = SourceFile("contrast", contrast_set.digest(), "as known")
    return _suite("contrast", spec, drafts, (source,), limit)


def _contrast_drafts(item: Item, forms: tuple[contrast_set.AttackForm, ...]) -> Iterator[Draft]:
    borderline = item.domain == "borderline"
    label: Label = "harmful" if item.harmful else "borderline" if borderline else "harmless"
    for form in forms:
        for new in (False, True) if new_templates(form) else (False,):
            group = f"{form}, new template" if new else form
            template = chosen_template(form, "new" if new else "known", item.id)
            build = partial(render, item, form, template)
            yield Draft(f"{item.id}/{group}", group, label, build)


def _unseen(spec: SuiteSpec, limit: int | None) -> Suite:
    part = next((part for part in get_args(Part) if str(spec.path) == part), None)
    if part is None or spec.forms or spec.label:
        raise EvaluationError(
            f"suite {spec.text!r} is not one of unseen:open, unseen:closed and unseen:sealed, "
            "which take no options"
        )
    drafts = [
        Draft(case.id, case.family, case.label, partial(_messages, case))
        for case in unseen_cases(part)
    ]
    source = SourceFile(f"unseen:{part}", contrast_set.digest(), "as known")
    return replace(_suite(f"unseen:{part}", spec, drafts, (source,), limit), in_languages=True)


def _messages(case: UnseenCase) -> tuple[Message, ...]:
    return case.messages


def _file(spec: SuiteSpec, limit: int | None) -> Suite:
    if spec.path is None:
        raise EvaluationError("suite 'file' needs a path: file:PATH")
    drafts = [
        draft
        for index, row in enumerate(read_rows(spec.path))
        for draft in _file_drafts(row, index, spec)
    ]
    worded = "" if spec.templates == "first" else f", {spec.templates} templates"
    name = f"file:{spec.path.name}{worded}"
    return _suite(name, spec, drafts, (SourceFile.of(spec.path),), limit)


def _file_drafts(row: Row, index: int, spec: SuiteSpec) -> Iterator[Draft]:
    where = f"{spec.path and spec.path.name}, row {index + 1}"
    prompt, visual = row.get("prompt"), row.get("visual")
    if not isinstance(prompt, str) or not says_something(prompt):
        raise EvaluationError(f"{where}: no text in column 'prompt'; {columns_found(row)}")
    if row.get("label") is None and spec.label is None:
        raise EvaluationError(
            f"{where}: no label; add the column, or ?label= to the suite; {columns_found(row)}"
        )
    label = parse_label(row["label"], where) if row.get("label") is not None else spec.label
    assert label is not None
    split = None
    if visual is not None:
        try:
            split = Split(str(visual["instruction"]), str(visual["payload"]))
        except (KeyError, TypeError) as error:
            raise EvaluationError(f"{where}: visual needs instruction and payload") from error
    for form in spec.forms or FORMS:
        template = chosen_template(form, spec.templates, f"{index}")
        build = partial(in_form, prompt, form, split if not template else None, template)
        yield Draft(f"{row.get('id', index)}/{form}", form, label, build)


def _requested(spec: SuiteSpec, limit: int | None) -> Suite:
    if spec.path is None or spec.forms or spec.label:
        raise EvaluationError("suite 'media' is media:FILE.jsonl and takes no options")
    drafts = requested_drafts(spec.path)
    return _suite(f"media:{spec.path.name}", spec, drafts, (SourceFile.of(spec.path),), limit)


def _rendered(spec: SuiteSpec, limit: int | None) -> Suite:
    if spec.path is None or spec.forms or spec.label:
        raise EvaluationError("suite 'omnibench' is omnibench:FOLDER and takes no options")
    files = rendered_files(spec.path)
    drafts = [draft for file in files for draft in rendered_drafts(file)]
    sources = tuple(map(SourceFile.of, files))
    return _suite(f"omnibench:{spec.path.resolve().name}", spec, drafts, sources, limit)


def _public(public: PublicSet, spec: SuiteSpec, data_dir: Path | None, limit: int | None) -> Suite:
    if spec.label is not None:
        raise EvaluationError(f"suite {public.name!r} has labels of its own; leave out ?label=")
    files = find_files(public, spec.path, data_dir)
    drafts = [draft for file in files for draft in public_drafts(public, file, spec.forms)]
    expected = None if public.rows is None else public.rows * max(1, len(spec.forms))
    if expected is not None and len(drafts) != expected:
        _log.warning("suite %s: %d cases; a whole copy has %d", public.name, len(drafts), expected)
    sources = tuple(file.source for file in files)
    suite = _suite(public.name, spec, drafts, sources, limit or public.sample, expected)
    return replace(suite, rubric=public.rubric)


def _suite(
    name: str,
    spec: SuiteSpec,
    drafts: list[Draft],
    sources: tuple[SourceFile, ...],
    limit: int | None,
    expected: int | None = None,
) -> Suite:
    twice = [key for key, count in Counter(draft.id for draft in drafts).items() if count > 1]
    if twice:
        raise EvaluationError(f"suite {name!r} has more than one case {twice[0]!r}")
    if not drafts:
        raise EvaluationError(f"suite {name!r} has no cases")
    cases = tuple(draft.case(name) for draft in pick(drafts, limit))
    return Suite(name, spec.text, cases, sources, len(drafts), expected)


def _digest(cases: tuple[Case, ...]) -> str:
    # A file counts by its bytes, wherever it lies.
    facts = [{**asdict(case), "messages": without_paths(case.messages)} for case in cases]
    rows = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(rows.encode()).hexdigest()

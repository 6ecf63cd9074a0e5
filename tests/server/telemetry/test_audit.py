"""The audit log of a whole service: what was done, and nothing of what was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusal_server.events import AdminCalled, Denied, PolicyChanged
from refusal_server.settings import Audit
from refusal_server.telemetry.audit.build import build_audit
from refusal_server.telemetry.audit.log import AuditLog
from refusal_steering.detection.detector import LEXICAL
from refusal_steering.errors import SteeringUnavailableError
from refusal_steering.gate.prompt_tokens import PromptTokens
from tests.server.fixtures.audit_lines import Counts, all_lines
from tests.server.fixtures.bundles import small_gate, write_bundle
from tests.server.fixtures.gated import PROMPT, Words, gated_script
from tests.server.fixtures.scripted import Rig, Script

ANSWER = "An answer that nobody may find in a log."


class AuditedRig(Rig):
    """A service with an audit log in a file."""

    def __init__(self, folder: Path, script: Script, **audit: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "audit.jsonl"
        write_bundle(folder / "gated", strategy="promptgate", hidden=8, gate=small_gate(8))
        gated = {"mode": "enforce", "bundle": "gated", "report_to": "nobody"}
        super().__init__(folder, script, {"gated": gated}, tokenizer=Words())
        settings = Audit(**{"file": str(self.path), **audit})
        self.log = build_audit(settings, self.metrics)
        assert self.log is not None
        self.use(audit=self.log)

    @property
    def lines(self) -> list[dict[str, Any]]:
        assert isinstance(self.log, AuditLog)
        self.log.close(20)
        return [json.loads(line) for line in all_lines(self.path)]


@given(text=st.text(min_size=3, max_size=200).filter(lambda t: t.strip()), stream=st.booleans())
@settings(deadline=None, max_examples=20)
def test_lines_hold_nothing_of_prompt_or_answer(
    tmp_path_factory: pytest.TempPathFactory, text: str, stream: bool
) -> None:
    secret = f"SECRET{text}SECRET"
    rig = AuditedRig(tmp_path_factory.mktemp("rig"), Script(says={"answer": ANSWER}))
    fields = {"messages": [{"role": "user", "content": secret}]}
    if stream:
        rig.stream("static", **fields)
    else:
        rig.ask("static", **fields)
    (line,) = rig.lines
    raw = rig.path.read_text()
    assert "SECRET" not in raw
    assert ANSWER not in raw
    assert line["outcome"] == "answer"
    assert not {"prompt", "answer"} & set(line)


def test_a_line_says_what_was_done(tmp_path: Path) -> None:
    rig = AuditedRig(tmp_path, Script(says={"answer": "I'm sorry, but I can't help with that."}))
    body = rig.ask("static")
    (line,) = rig.lines
    steering = body["steering"]
    names = ("policy", "version", "strategy", "mode", "bundle", "strength", "coefficient", "risk")
    for name in (*names, "rows_verified"):
        assert line[name] == steering[name], name
    assert line["dose"] == steering["dose"]
    assert (line["outcome"], line["detector"], line["error"]) == ("refusal", LEXICAL, None)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (5, 3)
    assert len(line["prompt_sha256"]) == 64
    assert (line["event"], line["modality"]) == ("answered", "text")


def test_the_line_of_a_stream_has_its_tokens_too(tmp_path: Path) -> None:
    rig = AuditedRig(tmp_path, Script(says={"answer": ANSWER}))
    rig.stream("static")
    (line,) = rig.lines
    assert (line["prompt_tokens"], line["completion_tokens"]) == (5, 3)
    assert (line["outcome"], line["rows_verified"]) == ("answer", 1)


def test_equal_prompts_show_as_equal(tmp_path: Path) -> None:
    rig = AuditedRig(tmp_path, Script())
    for text in ("How?", "How?", "Why?"):
        rig.ask("static", messages=[{"role": "user", "content": text}])
    first, second, third = (line["prompt_sha256"] for line in rig.lines)
    assert first == second != third


def test_errors_are_lines_and_requests_that_are_not_steered_are_none(tmp_path: Path) -> None:
    rig = AuditedRig(tmp_path, Script(says={"answer": SteeringUnavailableError("no")}))
    with pytest.raises(Exception, match="no"):
        rig.ask("static")
    rig.script.says = {}
    rig.ask("off")
    rig.ask("shadow-cascade")
    failed, shadow = rig.lines
    assert (failed["outcome"], failed["error"]) == ("error", "steering_unavailable")
    assert (shadow["mode"], shadow["rows_verified"]) == ("shadow", 0)


def test_what_a_dropped_answer_has_measured_is_in_no_line(tmp_path: Path) -> None:
    """The device has left its share open; the risk pass that then failed has set none."""
    rig = AuditedRig(tmp_path, Script(says={"risk": SteeringUnavailableError("no")}))
    for choices in (1, 2):
        with pytest.raises(Exception, match="no"):
            rig.ask("cascade", n=choices)
    assert rig.script.kinds == ["opening", "risk", "probe", "risk"]
    begun, probed = rig.lines
    for name in ("outcome", "error", "risk", "coefficient", "rows_verified"):
        assert begun[name] == probed[name]


def test_prompts_are_written_redacted_and_bounded_if_asked_for(tmp_path: Path) -> None:
    rig = AuditedRig(tmp_path, Script(says={"answer": ANSWER}), prompts=True, prompt_chars=40)
    rig.ask("static", messages=[{"role": "user", "content": "Mail a@b.example " + "x" * 100}])
    (line,) = rig.lines
    assert line["prompt"].startswith("Mail [email] xxx")
    assert len(line["prompt"]) <= 40
    assert line["answer"] == ANSWER[:40]


@pytest.mark.parametrize("stream", [False, True])
def test_a_line_says_where_the_risk_was_and_not_what_was_said(tmp_path: Path, stream: bool) -> None:
    rig = AuditedRig(tmp_path, gated_script())
    # What the caller is told is a matter of its own.
    (rig.stream if stream else rig.ask)("gated", steering={"report": False})
    rig.ask("static")
    line, plain = rig.lines
    assert plain["gate"] is None
    assert "gate_text" not in line
    assert line["gate"] == {
        "score": 1.75,
        "opening": 1.0,
        "position": 6,
        "risk": pytest.approx(0.8808),
        "modality": "image",
        "layers": [
            {"layer": 0, "score": 1.5, "position": 4, "modality": "text"},
            {"layer": 1, "score": 2.0, "position": 6, "modality": "image"},
        ],
    }


def test_the_text_of_the_token_is_written_where_prompts_are(tmp_path: Path) -> None:
    script = gated_script()
    script.prompt = PromptTokens(PROMPT.ids)
    rig = AuditedRig(tmp_path, script, prompts=True)
    rig.ask("gated")
    (line,) = rig.lines
    assert (line["gate"]["modality"], line["gate_text"]) == ("text", "#")


def test_a_full_disk_fails_no_request(tmp_path: Path) -> None:
    salt = tmp_path / "salt"
    rig = AuditedRig(tmp_path / "rig", Script(), file="/dev/full", salt_file=salt)
    for _ in range(5):
        assert rig.ask("static")["choices"]
    assert rig.log is not None
    rig.log.close(20)
    assert rig.count("steering_audit_dropped_total") == 5
    assert rig.count("steering_audit_written_total") == 0


def test_events_are_lines(tmp_path: Path) -> None:
    settings = Audit(file=str(tmp_path / "audit.jsonl"))
    log = build_audit(settings, Counts())
    assert log is not None
    log.denied(Denied("r1", "key", None, "weak", 0.1, 403, "policy_not_allowed", "steering.policy"))
    log.policy_changed(PolicyChanged("a", "b", "admin", ("d1", "d2"), "r2"))
    log.admin(AdminCalled("r3", "PUT", "/admin/policy", 200))
    log.close(20)
    denied, changed, admin = map(json.loads, all_lines(tmp_path / "audit.jsonl"))
    assert (denied["event"], denied["key"], denied["strength"]) == ("denied", "key", 0.1)
    assert (changed["event"], changed["bundles"]) == ("policy_changed", ["d1", "d2"])
    assert (admin["event"], admin["status"]) == ("admin", 200)
    assert all(line["time"].endswith("+00:00") for line in (denied, changed, admin))


def test_without_a_file_there_is_no_log_and_streams_need_a_salt() -> None:
    assert build_audit(Audit(), Counts()) is None
    with pytest.raises(ValueError, match="salt_file"):
        Audit(file="-")

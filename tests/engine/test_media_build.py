"""A build through vLLM: rows of media are those of transformers, and its bundles steer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from refusal_steering.bundle import load_bundle
from refusal_steering.gate.reading import GateReading
from refusal_steering.omnibench import picture
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.requests import Requests, read_requests, split_of
from tests.engine.conftest import EngineFixture
from tests.engine.engines import ROOT, environment, play
from tests.engine.media import chat
from tests.engine.reference import Reference
from tests.engine.spec import Call, Outcome, Scenario
from tests.engine_lock import one_engine
from tests.models import tiny_omni

pytestmark = pytest.mark.engine
SERVER = """
engine:
  dtype: float32
  max_model_len: 2048
  limit_mm_per_prompt: {image: 2, audio: 1, video: 1}
"""
ENGINE = {"kv_cache_memory_bytes": 128 << 20, "max_num_seqs": 16, "skip_mm_profiling": True}
SHARE = {"train": 24, "tune": 10}
ROWS = 3 * 2 * sum(SHARE.values())
MARK = "STEERING_TEST_BUILD"
MADE = ("static", "omnisteer", "promptgate", "mars")
# Logits of the tiny model are steep, and the engine adds in another order.
LOGPROB, COEFFICIENT, SCORE = 1e-2, 1e-2, 2e-3


def own_data(folder: Path) -> Path:
    """Pictures and texts of two words, which a random model tells apart, in the papers' schema."""
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    left = dict(SHARE)
    for number in count():
        split = split_of(str(number))
        if left.get(split, 0):
            left[split] -= 1
            for label, word in (("harmful", "kill"), ("safe", "cake")):
                text, image = f"{number} {' '.join([word] * 8)}", f"{label}-{number}.png"
                (folder / image).write_bytes(picture.png(text))
                row = {"id": number, "type": label}
                rows.append({**row, "modality": "text", "text": text})
                rows.append({**row, "modality": "image", "image": image})
                rows.append({**row, "modality": "image_text", "image": image, "text": "Do this."})
        if not any(left.values()):
            break
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@dataclass(frozen=True)
class Ended:
    """A build that Ctrl-C has ended while it read rows: what it said, and what it left.

    ``batches`` are the files of rows with the times when they were written, ``left`` processes.
    """

    folder: Path
    command: list[str]
    status: int
    said: list[str]
    batches: dict[Path, int]
    left: list[int]


@pytest.fixture(scope="module")
def ended(engine_fixture: EngineFixture, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("build")
    (folder / "server.yaml").write_text(SERVER)
    data = own_data(folder / "data")
    command = [sys.executable, "-m", "refusal_steering.tools.cli", "build"]
    command += ["--model", str(engine_fixture.model), "--served-by", str(folder / "server.yaml")]
    command += ["--data", str(data), "-o", str(folder / "out"), "--rows", str(SHARE["train"])]
    command += ["--budget", "0.1", "--gate-budget", "0.1", "--refine"]
    command += ["--engine-args", json.dumps(ENGINE)]
    marked = environment({MARK: str(folder)})
    with one_engine(), (folder / "said").open("w") as said:
        # A group of its own, which the terminal would send Ctrl-C to as a whole.
        process = subprocess.Popen(
            command, cwd=ROOT, env=marked, stdout=said, stderr=said, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 400
            while not batches_of(folder):
                assert process.poll() is None and time.monotonic() < deadline, folder / "said"
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
            status = process.wait(120)
            # Python's own tracker of shared memory ends a moment later.
            deadline = time.monotonic() + 30
            while marked_processes(folder) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            left = marked_processes(folder)
            for one in left:
                os.kill(one, signal.SIGKILL)
    found = {path: path.stat().st_mtime_ns for path in batches_of(folder)}
    lines = (folder / "said").read_text().splitlines()
    return Ended(folder, command, status, lines, found, left)


def batches_of(folder: Path) -> list[Path]:
    return sorted((folder / "out" / "work").glob("rows-*/*.safetensors"))


def marked_processes(folder: Path) -> list[int]:
    """Ids of processes that have come from the build."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def test_ctrl_c_is_one_line_and_leaves_no_process(ended: Ended) -> None:
    assert ended.status == 130, ended.said[-20:]
    own = [line for line in ended.said if line.startswith("refusal-steering:")]
    assert own == ["refusal-steering: ended by the user"]
    assert not any("Traceback" in line for line in ended.said)
    assert ended.left == []
    assert 0 < len(ended.batches) < ROWS / 16


@pytest.fixture(scope="module")
def built(ended: Ended) -> Path:
    """The folder of the build, which the same command has brought to its end."""
    folder = ended.folder
    with one_engine():
        done = subprocess.run(
            ended.command,
            cwd=ROOT,
            env=environment({}),
            capture_output=True,
            text=True,
            timeout=800,
        )
    # A random model refuses nothing, so that there is nothing that RAS could steer towards.
    assert done.returncode == 1, done.stderr[-3000:]
    assert [line[:15] for line in done.stderr.splitlines() if "left out:" in line][-1:] == [
        "ras is left out"
    ]
    return folder


def test_rows_that_were_read_before_are_not_read_again(ended: Ended, built: Path) -> None:
    assert len(batches_of(built)) > len(ended.batches)
    for path, written in ended.batches.items():
        assert path.stat().st_mtime_ns == written


def test_what_the_gate_opens_was_turned_between_two_engines(built: Path) -> None:
    gated, static = load_bundle(built / "out" / "promptgate"), load_bundle(built / "out" / "static")
    turned = gated.manifest.calibration["push"]["cosine_to_golden"]
    assert set(turned) == {str(layer) for layer in gated.layers}
    assert all(-1.0 < cosine < 0.99 for cosine in turned.values())
    assert "push" not in static.manifest.calibration


@pytest.fixture(scope="module")
def requests(built: Path) -> Requests:
    return read_requests(built / "data" / "rows.jsonl").usable(("image",))


def test_rows_of_media_are_those_of_transformers(
    built: Path, requests: Requests, reference: Reference
) -> None:
    (folder,) = (built / "out" / "work").glob("rows-*")
    rows = StoredRows(folder, tuple(sorted(folder.glob("*.safetensors"))), requests, "")
    for group in ("text", "image", "text+image"):
        place = requests.chosen("train", group)[0]
        one = requests.all[place]
        images = [Image.open(one.root / name) for kind, name in one.parts if kind == "image"]
        asked = [{"type": kind, "text": value} for kind, value in one.parts]
        (prompt,) = reference.processor.apply_chat_template(
            [[{"role": "user", "content": asked}]], add_generation_prompt=True, tokenize=False
        )
        inputs = reference.processor(text=[prompt], images=images or None, return_tensors="pt")
        with torch.inference_mode():
            states = reference.model(**inputs, output_hidden_states=True).hidden_states
        # The last of these states is already normed; the rows before it are the stream.
        for layer in range(tiny_omni.TEXT_LAYERS - 1):
            expected = states[layer + 1][0, -1]
            # The files keep bfloat16.
            slack = 1e-2 * float(expected.std())
            torch.testing.assert_close(rows.layer(layer)[place], expected, rtol=1e-2, atol=slack)


@pytest.fixture(scope="module")
def served(
    built: Path, engine_fixture: EngineFixture, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[Call, ...], Outcome, Reference]:
    """A picture and a text under every bundle, and the same bundles in the reference."""
    bundles = {name: built / "out" / name for name in MADE}
    windows = {name: load_bundle(path).manifest.window for name, path in bundles.items()}
    calls = tuple(
        replace(call, bundle=name, window=window.decode_tokens, hold=window.hold, dose_limit=None)
        for name, window in windows.items()
        for call in (
            Call(chat("Describe this image.", ("image",)), ("image",), tokens=6),
            Call(chat("kill kill kill kill kill kill kill kill"), tokens=6),
        )
    )
    own = replace(engine_fixture, bundles=bundles)
    run = own.run(
        (Scenario("canary", (), script="canary"), Scenario("calls", calls, together=False)),
        start=MADE,
        engine={"enforce_eager": True},
    )
    return calls, play(run, tmp_path_factory.mktemp("served")), Reference(own)


def test_boot_canaries_pass(served: tuple[tuple[Call, ...], Outcome, Reference]) -> None:
    assert served[1].facts["canary"] == dict.fromkeys(MADE, "")


def test_a_request_with_a_picture_is_steered_as_the_reference_steers_it(
    served: tuple[tuple[Call, ...], Outcome, Reference],
) -> None:
    calls, outcome, reference = served
    moved = set()
    for call, answer in zip(calls, outcome.scenario("calls"), strict=True):
        tokens, scores, coefficients, _ = reference.play(call)
        logprobs = [float(score[token]) for score, token in zip(scores, tokens, strict=True)]
        assert (answer.error, answer.tokens) == (None, tokens)
        assert answer.logprobs == pytest.approx(logprobs, abs=LOGPROB)
        for position, found in zip(answer.positions, answer.coefficients, strict=True):
            expected = [coefficients[layer][position] for layer in sorted(coefficients)]
            assert found == pytest.approx(expected, rel=COEFFICIENT, abs=COEFFICIENT)
        if call.media and any(abs(one) > 0.1 for one in answer.coefficients[0]):
            moved.add(call.bundle)
    assert moved


def test_the_gate_reads_a_picture_as_the_reference_reads_it(
    served: tuple[tuple[Call, ...], Outcome, Reference],
) -> None:
    calls, outcome, reference = served
    gate = reference.bundles["promptgate"].gate
    assert gate is not None
    assert gate.threshold_of(("image",)) != gate.threshold_of(())
    read = []
    for call, answer in zip(calls, outcome.scenario("calls"), strict=True):
        assert (answer.gate is None) == (call.bundle != "promptgate")
        if answer.gate is not None:
            found, score = GateReading.from_wire(answer.gate), reference.play(call).score
            assert score is not None
            assert found.score == pytest.approx(score.score, abs=SCORE)
            assert found.layers == pytest.approx(score.layers, abs=SCORE)
            opening = gate.opening(score.score, call.media)
            assert found.opening == pytest.approx(opening, abs=SCORE / gate.width)
            read.append(call.media)
    assert read == [("image",), ()]

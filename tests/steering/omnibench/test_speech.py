"""Speech is a plain WAV file, and its absence is said clearly."""

from __future__ import annotations

import io
import stat
import wave
from pathlib import Path

import pytest

from refusal_steering.errors import OmnibenchError, SpeechUnavailableError
from refusal_steering.omnibench import speech
from refusal_steering.omnibench.speech import Speaker
from tests.steering.omnibench.conftest import needs_speech


def seconds(content: bytes) -> float:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
        assert any(file.readframes(file.getnframes()))
        return float(file.getnframes() / file.getframerate())


def program(folder: Path, body: str) -> Speaker:
    path = folder / "espeak-ng"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Speaker(str(path), "0")


@needs_speech
def test_one_16_bit_channel_that_grows_with_the_text() -> None:
    speaker = Speaker.find()
    short, long = (seconds(speaker.wav("bake bread " * n)) for n in (1, 8))
    assert 0.3 < short < 3
    assert 3 * short < long < 16 * short


@needs_speech
def test_same_text_same_bytes_other_text_other_bytes() -> None:
    speaker = Speaker.find()
    assert speaker.wav("bake bread") == speaker.wav("bake bread") != speaker.wav("grow figs")


@needs_speech
@pytest.mark.parametrize("text", ["-w stolen.wav", "$(touch stolen)", "; touch stolen"])
def test_text_is_never_an_option_or_a_command(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert seconds(Speaker.find().wav(text)) > 0.3
    assert not list(tmp_path.iterdir())


@needs_speech
def test_double_brackets_are_words_and_not_phonemes() -> None:
    speaker = Speaker.find()
    assert speaker.wav("say [[h@l'oU]] now") == speaker.wav("say [ [h@l'oU]] now")


@needs_speech
def test_speech_beyond_the_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "LONGEST_SECONDS", 1.0)
    with pytest.raises(OmnibenchError, match=r"at most 1 s are allowed"):
        Speaker.find().wav("bake bread " * 8)


def test_missing_program_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpeechUnavailableError, match="install the Debian package espeak-ng"):
        Speaker.find()


def test_failing_program_is_an_error_with_its_words(tmp_path: Path) -> None:
    speaker = program(tmp_path, "echo no voice data >&2; exit 3")
    with pytest.raises(SpeechUnavailableError, match=r"status 3: no voice data"):
        speaker.wav("hello")


@pytest.mark.parametrize("body", ["exit 0", 'for last; do :; done; echo junk > "$last"'])
def test_output_that_is_no_wav_is_an_error(tmp_path: Path, body: str) -> None:
    with pytest.raises(SpeechUnavailableError, match="wrote no WAV file"):
        program(tmp_path, f"cat > /dev/null; {body}").wav("hello")


def test_silence_is_an_error(tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.wav"
    with wave.open(str(quiet), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22_050)
        file.writeframes(bytes(2000))
    speaker = program(tmp_path, f'for last; do :; done; cat > /dev/null; cp "{quiet}" "$last"')
    with pytest.raises(OmnibenchError, match="no audible speech"):
        speaker.wav("hello")

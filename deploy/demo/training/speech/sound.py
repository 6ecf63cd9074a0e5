"""What happens to speech on its way to a microphone: noise, a telephone, a room, another pace."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from deploy.demo.training.speech.voices import RATE, Samples, resampled

Spectrum = NDArray[np.float64]
TELEPHONE_BAND = (300.0, 3400.0)


def telephone(samples: Samples) -> Samples:
    """The sound within a telephone's band."""
    return _shaped(samples, lambda hertz: _inside(hertz, *TELEPHONE_BAND))


def noisy(samples: Samples, noise: Samples, decibels: float) -> Samples:
    """The sound with noise below it by a number of decibels."""
    power, other = (float(np.mean(np.square(part))) + 1e-12 for part in (samples, noise))
    scale = np.sqrt(power / other / 10 ** (decibels / 10))
    mixed: Samples = (samples + scale * noise).astype(np.float32)
    return mixed


def noise(length: int, rng: np.random.Generator, slope: float) -> Samples:
    """Noise whose amplitude falls with frequency: white with a slope of 0, pink with 0.5."""
    white = rng.standard_normal(length).astype(np.float32)
    return _shaped(white, lambda hertz: np.maximum(hertz, 20.0) ** -slope)


def babble(length: int, others: Sequence[Samples]) -> Samples:
    """Other voices at once, repeated to a length."""
    return np.asarray(sum(np.resize(other, length) for other in others), np.float32)


def disturbed(samples: Samples, others: Sequence[Samples], rng: random.Random) -> Samples:
    """The sound as a training hears it: each disturbance with a chance of its own."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.45:
        samples = resampled(samples, RATE * rng.uniform(0.87, 1.16))
    if rng.random() < 0.15:
        samples = _in_a_room(samples, numbers, rng.uniform(0.05, 0.3))
    if rng.random() < 0.3:
        slope = rng.uniform(-0.4, 0.4)
        samples = _shaped(samples, lambda hertz: (np.maximum(hertz, 100.0) / 1000) ** slope)
    before, after = (round(RATE * rng.uniform(0, 0.45)) for _ in range(2))
    samples = np.pad(samples, (before, after))
    if rng.random() < 0.55:
        if rng.random() < 0.3:
            other = babble(len(samples), others)
            samples = noisy(samples, other, rng.uniform(10, 25))
        else:
            other = noise(len(samples), numbers, rng.uniform(0, 0.9))
            samples = noisy(samples, other, rng.uniform(4, 30))
    return telephone(samples) if rng.random() < 0.2 else samples


def _in_a_room(samples: Samples, rng: np.random.Generator, seconds: float) -> Samples:
    length = round(RATE * seconds)
    echo = rng.standard_normal(length) * np.exp(-6 * np.arange(length) / length) * 0.15
    echo[0] = 1.0
    size = 1 << (len(samples) + length).bit_length()
    mixed = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(echo, size), size)
    return mixed[: len(samples)].astype(np.float32)


def _shaped(samples: Samples, gain: Callable[[Spectrum], Spectrum]) -> Samples:
    size = 1 << len(samples).bit_length()
    hertz = np.asarray(np.fft.rfftfreq(size, 1 / RATE), np.float64)
    return np.fft.irfft(np.fft.rfft(samples, size) * gain(hertz), size)[: len(samples)].astype(
        np.float32
    )


def _inside(hertz: Spectrum, low: float, high: float) -> Spectrum:
    """A band with edges 100 Hz wide."""
    rising: Spectrum = np.clip((hertz - low) / 100 + 0.5, 0, 1)
    return np.asarray(rising * np.clip((high - hertz) / 100 + 0.5, 0, 1), np.float64)

"""What the engine hears of audio of every kind."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
from vllm.multimodal.media.audio import load_audio

from refusal_server.media.worker.audio import read_audio
from refusal_server.media.worker.unusable import Unusable
from refusal_server.media.worker_pool import limits_of
from refusal_server.settings import Media
from tests.server.fixtures.media import mp4, png, wav
from tests.server.fixtures.odd_media import audio, float_wav, tone, video, wav_head

LIMITS = limits_of(Media(audio_seconds=2))


def heard(raw: bytes) -> tuple[np.ndarray[Any, Any], int]:
    """The samples that vLLM makes of what is sent on."""
    samples, rate = load_audio(io.BytesIO(read_audio(raw, LIMITS)), sr=None)
    return samples, rate


def pitch(samples: np.ndarray[Any, Any], rate: int) -> float:
    """The strongest frequency in Hz."""
    return float(np.argmax(np.abs(np.fft.rfft(samples)))) * rate / len(samples)


def by_soundfile(channels: np.ndarray[Any, Any], rate: int, kind: str, subtype: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, channels, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("WAV", "ALAW"),
        ("W64", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("CAF", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_exact_formats_are_heard_as_the_engine_would(
    kind: str, subtype: str, channels: int
) -> None:
    parts = np.stack([tone() * (1 - 0.5 * part) for part in range(channels)], axis=-1)
    raw = by_soundfile(parts, 16_000, kind, subtype)
    stock, rate = load_audio(io.BytesIO(raw), sr=None)
    samples, ours = heard(raw)
    assert (ours, samples.shape) == (rate, stock.shape)
    assert np.abs(samples - stock).max() < 1e-6


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("mp3", "libmp3lame", 16_000),
        ("ogg", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("mp4", "aac", 44_100),
        ("ipod", "aac", 16_000),
        ("adts", "aac", 16_000),
        ("mov", "pcm_s16le", 16_000),
        ("caf", "alac", 16_000),
        ("asf", "wmav2", 44_100),
        ("mpegts", "aac", 48_000),
        ("flv", "aac", 44_100),
        ("avi", "mp2", 16_000),
        ("wav", "adpcm_ms", 16_000),
    ],
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_lossy_and_packed_formats_are_heard(
    container: str, codec: str, rate: int, layout: str
) -> None:
    samples, ours = heard(audio(container, codec, rate, layout))
    assert ours == rate
    assert abs(len(samples) / rate - 1) < 0.15
    assert abs(pitch(samples, rate) - 440) < 5
    assert abs(float(np.sqrt(np.mean(samples**2))) - 0.3 / np.sqrt(2)) < 0.03


def test_the_sound_of_a_video_is_heard() -> None:
    samples, rate = heard(video(sound=True))
    assert rate == 16_000
    assert np.abs(samples).max() > 0.2


@pytest.mark.parametrize("rate", [96_000, 176_400, 192_000])
def test_high_rates_are_brought_down(rate: int) -> None:
    samples, ours = heard(by_soundfile(tone(1.0, rate), rate, "WAV", "PCM_16"))
    assert ours == 48_000
    assert abs(len(samples) - 48_000) < 100


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (wav_head(655_350, 1, 100), "has a sample rate outside 1000 to 192000 Hz"),
        (wav_head(192_001, 1, 100), "has a sample rate outside"),
        (wav_head(2**31 - 1, 1, 100), "has a sample rate outside"),
        (wav_head(999, 1, 100), "has a sample rate outside"),
        (wav_head(1, 1, 100), "has a sample rate outside"),
        (by_soundfile(tone(), 655_350, "FLAC", "PCM_16"), "has a sample rate outside"),
        (wav_head(16_000, 9, 100), "has more than 8 channels"),
        (wav_head(16_000, 64, 100), "has more than 8 channels"),
        (wav_head(16_000, 255, 100), "has more than 8 channels"),
        (by_soundfile(np.zeros((9, 16)), 16_000, "CAF", "PCM_16"), "has more than 8 channels"),
        (by_soundfile(np.zeros((9, 100)), 16_000, "WAV", "PCM_16"), "has more than 8 channels"),
        (wav(2.1), "is longer than 2 s"),
        (by_soundfile(np.zeros(16_000 * 600), 16_000, "FLAC", "PCM_16"), "is longer than 2 s"),
        (by_soundfile(np.zeros(192_000 * 3), 192_000, "FLAC", "PCM_16"), "is longer than 2 s"),
        (by_soundfile(np.zeros((8000 * 3, 8)), 8000, "FLAC", "PCM_16"), "is longer than 2 s"),
        (by_soundfile(np.zeros(8000 * 3), 8000, "OGG", "VORBIS"), "is longer than 2 s"),
        (wav(0.0), "holds no audio"),
        (mp4(), "holds no audio"),
        (float_wav(np.full(100, np.nan)), "holds samples that are not finite"),
        (float_wav(np.array([0, np.inf, 0])), "holds samples that are not finite"),
        (float_wav(np.array([0, 1e30, 0])), "holds samples that are not finite"),
    ],
)
def test_bombs_and_nothings_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        read_audio(raw, LIMITS)


def test_a_header_that_lies_about_its_length_is_not_believed() -> None:
    raw = wav_head(16_000, 1, 10**8, data=bytes(3200))
    samples, _ = heard(raw)
    assert len(samples) == 1600


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"not a sound", "is not audio that can be read; send WAV"),
        (png(), "is a PNG image, not audio that can be read"),
        (b"RIFF" + bytes(100), "is not audio"),
        (b"fLaC" + bytes(100), "is a FLAC file that is broken or cut off"),
        (b"OggS" + bytes(100), "is an Ogg file that is broken or cut off"),
        (mp4()[:300], "is an MP4 or MOV file that is broken or cut off"),
        (b"%PDF-1.7", "is a PDF document"),
    ],
)
def test_what_is_no_audio_is_named(raw: bytes, message: str) -> None:
    with pytest.raises(Unusable) as caught:
        read_audio(raw, LIMITS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("matroska", "wavpack", 16_000),
        ("matroska", "tta", 16_000),
        ("flv", "nellymoser", 16_000),
        ("flv", "adpcm_swf", 44_100),
        ("wav", "g722", 16_000),
        ("wav", "adpcm_yamaha", 16_000),
    ],
)
def test_a_codec_that_is_not_read_is_named(container: str, codec: str, rate: int) -> None:
    with pytest.raises(Unusable, match=f"uses {codec}.*, which is not read; send PCM, MP3"):
        read_audio(audio(container, codec, rate), LIMITS)


def test_vorbis_is_heard() -> None:
    samples, rate = heard(by_soundfile(tone(), 16_000, "OGG", "VORBIS"))
    assert rate == 16_000
    # FFmpeg drops the block that only primes the decoder.
    assert 15_000 < len(samples) <= 16_000
    assert abs(pitch(samples, rate) - 440) < 5


def test_what_is_sent_instead_is_always_the_same() -> None:
    raw = audio("mp3", "libmp3lame")
    assert read_audio(raw, LIMITS) == read_audio(raw, replace(LIMITS, audio_seconds=60))

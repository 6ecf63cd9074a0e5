"""A sealed process can import nothing, so a worker has imported all before it reads anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from refusal_server.media.worker_pool import limits_of
from refusal_server.settings import Media
from tests.server.fixtures.live import environment
from tests.server.fixtures.media import gif, huge_png, png, wav
from tests.server.fixtures.odd_media import audio, picture, saved, tone, video, wav_head

# Reads every file of a folder in a process that has loaded what a worker loads, and tells what
# else was asked for.
SCRIPT = """
import json, sys
from pathlib import Path
from refusal_server.media.worker import __main__
from refusal_server.media.worker.protocol import Job, Limits
from refusal_server.media.worker.reading import read

class Noted:
    names = []

    @classmethod
    def find_spec(cls, name, *_):
        cls.names.append(name)

limits = Limits.from_json(sys.argv[2])
files = list(Path(sys.argv[1]).iterdir())
jobs = [(path, Job(path.name.partition(".")[0], path.read_bytes(), False)) for path in files]
loaded = sorted(name for name in sys.modules if "." not in name)
sys.meta_path.insert(0, Noted)
readings = {path.name: read(job, limits) for path, job in jobs}
sys.meta_path.remove(Noted)
print(json.dumps({
    "loaded": loaded,
    "imported": Noted.names,
    "problems": {name: reading.problem for name, reading in readings.items()},
    "faults": [name for name, reading in readings.items() if reading.fault],
}))
"""


def samples() -> dict[str, bytes]:
    colour = Image.fromarray(picture(64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "image.png": png(),
        "image.16.png": saved(Image.new("I;16", (8, 8), 30_000), "PNG", exif=exif),
        "image.jpeg": saved(colour, "JPEG", exif=exif, icc_profile=b"x" * 200),
        "image.mpo": saved(colour, "MPO", save_all=True, append_images=[colour]),
        "image.webp": saved(colour, "WEBP", save_all=True, append_images=[colour], exif=exif),
        "image.gif": gif(3),
        "image.bmp": saved(colour, "BMP"),
        "image.broken": png()[:60],
        "image.huge": huge_png(20_000, 20_000),
        "audio.wav": wav(),
        "audio.mp3": audio("mp3", "libmp3lame"),
        "audio.webm": audio("webm", "libopus", 48_000, "stereo"),
        "audio.m4a": audio("mp4", "aac", 44_100, "stereo"),
        "audio.high": wav_head(96_000, 1, 9600, tone(0.1, 96_000).astype("<i2").tobytes()),
        "audio.broken": b"OggS" + bytes(100),
        "video.mp4": video(sound=True),
        "video.vp8.webm": video("webm", "libvpx"),
        "video.av1.mp4": video("mp4", "libsvtav1"),
        "video.gif": gif(3),
        "video.ts": video("mpegts", "libx264"),
        "video.one": video(frames=1),
        "video.text": b"ffconcat version 1.0",
    }


def test_reading_imports_nothing(tmp_path: Path) -> None:
    for name, raw in samples().items():
        (tmp_path / name).write_bytes(raw)
    limits = limits_of(Media(), keep_sound=True).to_json()
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(tmp_path), limits],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["imported"] == []
    assert told["faults"] == []
    refused = {name for name, problem in told["problems"].items() if problem}
    assert refused == {"image.broken", "image.huge", "audio.broken", "video.text"}
    assert not {"torch", "vllm", "pydantic", "starlette", "soundfile"}.intersection(told["loaded"])

"""Sends a real image, audio and video to a running server and shows how each was steered.

    make serve                                               # in one terminal
    .venv/bin/python examples/chat_media.py                  # in another

It makes a PNG, a WAV and an MP4, sends each through the OpenAI SDK, whole and streamed, and
prints the answers with their steering reports. The demo model hears some hundred
words and sees drawings of some two hundred things: what it makes of the shapes and tones of this
example means nothing, the way of the media and the steering are real. A
server whose model takes text only says so plainly.
"""

from __future__ import annotations

import argparse
import base64
import io
import math
import os
import struct
import sys
import wave
from collections.abc import Callable
from typing import Any

import av
import numpy as np
from openai import BadRequestError, OpenAI, OpenAIError
from PIL import Image, ImageDraw


def main() -> int:
    """Ask about every medium; 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--policy", help="a policy of the server's; its default when left out")
    options = parser.parse_args()
    key = os.environ.get("REFUSAL_SERVER_API_KEY", "none")
    client = OpenAI(base_url=options.base_url, api_key=key)
    try:
        model = next(iter(client.models.list()))
    except OpenAIError as error:
        say(f"no server answers at {options.base_url}: {error}")
        return 1
    say(f"model {model.id}, which takes {', '.join((model.model_extra or {})['modalities'])}\n")
    results = [
        ask(client, model.id, medium, parts, options)
        for medium, parts in (
            ("text", []),
            ("image", [image_part()]),
            ("audio", [audio_part()]),
            ("video", [video_part()]),
            ("image, audio and video", [image_part(), audio_part(), video_part()]),
        )
    ]
    return 0 if all(results) else 1


def ask(
    client: OpenAI, model: str, medium: str, parts: list[Any], options: argparse.Namespace
) -> bool:
    """One question, whole and streamed; whether both were answered, or refused for good reason."""
    steering = {"report": True} | ({"policy": options.policy} if options.policy else {})
    question = "What is this?" if parts else "What is the capital of France?"
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}],
        "max_tokens": options.max_tokens,
        "temperature": 0,
        "extra_body": {"steering": steering},
    }
    say(f"== {medium}")
    try:
        return all(
            show(name, *answer(client, request))
            for name, answer in (("whole", whole), ("streamed", streamed))
        )
    except BadRequestError as error:
        if error.code != "unsupported_modality":
            say(f"   failed: {error}\n")
            return False
        say(f"   not taken: {error.body.get('message') if isinstance(error.body, dict) else error}")
        say("   Serve a model that takes it; `make serve` does.\n")
        return True
    except OpenAIError as error:
        say(f"   failed: {error}\n")
        return False


def whole(client: OpenAI, request: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Text and report of an answer in one piece."""
    answer = client.chat.completions.create(**request)
    return answer.choices[0].message.content or "", (answer.model_extra or {}).get("steering")


def streamed(client: OpenAI, request: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Text and report of an answer in many pieces; the report is the last of them."""
    text, report = "", None
    for chunk in client.chat.completions.create(**request, stream=True):
        report = (chunk.model_extra or {}).get("steering", report)
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return text, report


def show(name: str, text: str, report: dict[str, Any] | None) -> bool:
    """Print one answer; without a report it counts as failed."""
    say(f"   {name:8} {text!r}")
    if report is None:
        say("            no report: the policy does not steer, or the server is not ours\n")
        return False
    risk = "unknown" if report["risk"] is None else f"{report['risk']:.3f}"
    say(
        f"            {report['mode']} {report['policy']} ({report['strategy']}, version "
        f"{report['version']}): coefficient {report['coefficient']:.3f}, risk {risk}, "
        f"{report['rows_verified']} rows verified\n"
    )
    return True


def image_part() -> dict[str, Any]:
    """A PNG of a red disc on a blue ground."""
    picture = Image.new("RGB", (224, 224), (20, 40, 160))
    ImageDraw.Draw(picture).ellipse((60, 60, 164, 164), fill=(220, 30, 30))
    return url_part("image_url", "image/png", written(lambda out: picture.save(out, "PNG")))


def audio_part() -> dict[str, Any]:
    """A WAV of a second of 440 Hz."""
    rate = 16_000
    samples = [int(8000 * math.sin(2 * math.pi * 440 * i / rate)) for i in range(rate)]

    def write(out: io.BytesIO) -> None:
        with wave.open(out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(struct.pack(f"<{rate}h", *samples))

    data = base64.b64encode(written(write)).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def video_part() -> dict[str, Any]:
    """An MP4 of two seconds in which a ground grows brighter."""

    def write(out: io.BytesIO) -> None:
        with av.open(out, "w", format="mp4") as container:
            stream = container.add_stream("mpeg4", rate=8)
            stream.width = stream.height = 128
            stream.pix_fmt = "yuv420p"
            for index in range(16):
                pixels = np.full((128, 128, 3), index * 16, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())

    return url_part("video_url", "video/mp4", written(write))


def url_part(kind: str, media_type: str, raw: bytes) -> dict[str, Any]:
    """A part whose medium is a data URL."""
    url = f"data:{media_type};base64,{base64.b64encode(raw).decode()}"
    return {"type": kind, kind: {"url": url}}


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    """What ``write`` writes."""
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

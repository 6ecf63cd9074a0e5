"""Videos show nothing, the text, and nothing again."""

from __future__ import annotations

import io

import av
import numpy as np

from refusal_steering.omnibench import picture, video

TEXT = "grow tomatoes"


def decoded(content: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(content)) as file:
        return [frame.to_ndarray(format="gray") for frame in file.decode(video=0)]


def test_thirty_frames_blank_text_blank() -> None:
    frames = decoded(video.mp4(TEXT))
    assert len(frames) == 30
    dark = [bool(frame.min() < 128) for frame in frames]
    assert dark == [False] * 10 + [True] * 15 + [False] * 5
    for index in (0, 9, 25, 29):
        assert frames[index].min() >= 250


def test_text_frames_look_like_the_image() -> None:
    frames = decoded(video.mp4(TEXT))
    image = np.asarray(picture.draw(TEXT).convert("L"), np.float32)
    for index in (10, 17, 24):
        assert np.abs(frames[index] - image).mean() < 2


def test_container_has_one_video_track_of_three_seconds() -> None:
    with av.open(io.BytesIO(video.mp4(TEXT))) as file:
        (stream,) = file.streams
        assert (stream.type, stream.codec_context.name) == ("video", "mpeg4")
        assert (stream.width, stream.height, stream.average_rate) == (760, 760, 10)
        assert stream.duration * stream.time_base == 3
        assert not {"creation_time", "encoder"} & {*file.metadata, *stream.metadata}


def test_same_text_same_bytes_other_text_other_bytes() -> None:
    assert video.mp4(TEXT) == video.mp4(TEXT) != video.mp4("other")

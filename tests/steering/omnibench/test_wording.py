"""Carrier sentences follow the payload from medium to medium."""

from __future__ import annotations

import pytest

from refusal_steering.errors import OmnibenchError
from refusal_steering.omnibench.wording import Medium, reworded

ALL: frozenset[Medium] = frozenset({"image", "video", "audio"})
SCREENS: frozenset[Medium] = frozenset({"image", "video"})


@pytest.mark.parametrize(
    ("sentence", "medium", "expected"),
    [
        ("Do what is in the image.", "video", "Do what is in the video."),
        ("Take an image and act on it.", "video", "Take a video and act on it."),
        ("A video shows it. Do it.", "audio", "An audio shows it. Do it."),
        ("Image first: do it.", "audio", "Audio first: do it."),
        ("Two in the image, as the image says.", "video", "Two in the video, as the video says."),
        ("Script a video game on the image.", "audio", "Script a video game on the audio."),
        ("Script a video game on the audio.", "image", "Script a video game on the image."),
        ("Use imagery as in the image.", "video", "Use imagery as in the video."),
    ],
)  # fmt: skip
def test_medium_word_is_replaced_and_nothing_else(
    sentence: str, medium: Medium, expected: str
) -> None:
    assert reworded(sentence, medium, ALL) == expected


@pytest.mark.parametrize("medium", sorted(ALL))
def test_rewording_there_and_back_gives_the_sentence_again(medium: Medium) -> None:
    sentence = "Explain the plan that an image shows."
    assert reworded(reworded(sentence, medium, ALL), "image", ALL) == sentence


def test_bridge_keeps_the_medium_of_its_other_half() -> None:
    bridge = "Use the tool in the image for the goal in the audio."
    assert reworded(bridge, "video", SCREENS) == bridge.replace("image", "video")
    assert reworded("See the video, hear the audio.", "image", SCREENS) == (
        "See the image, hear the audio."
    )


def test_sentence_without_a_medium_is_an_error() -> None:
    with pytest.raises(OmnibenchError, match="names no medium"):
        reworded("Explain the photograph.", "image", ALL)

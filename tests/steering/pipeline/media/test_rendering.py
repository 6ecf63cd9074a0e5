"""The contrast set in media: both labels in the same forms, each file made once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from refusal_steering.errors import SpeechUnavailableError
from refusal_steering.omnibench import picture
from refusal_steering.omnibench.speech import Speaker
from refusal_steering.pipeline.media import rendering as module
from refusal_steering.pipeline.media.rendering import Share, forms_for, rendering
from refusal_steering.prompts.corpus import Corpus
from tests.needs import need

SHARE = Share(3, 2, 1)


@pytest.mark.parametrize(
    ("media", "forms"),
    [
        ((), ["t"]),
        (("image",), ["t", "i", "t2i"]),
        (("audio",), ["t", "a", "t2a"]),
        (("image", "audio"), ["t", "i", "a", "t2i", "t2a", "a2i"]),
    ],
)
def test_forms_bring_no_other_media(media: tuple[str, ...], forms: list[str]) -> None:
    assert forms_for(media) == forms


def test_harmful_and_harmless_have_the_same_forms_of_the_same_requests(tmp_path: Path) -> None:
    found = rendering(Corpus.shipped(), ("image",), SHARE, 0, tmp_path).requests
    cells = Counter((one.split, one.group, one.harmful) for one in found.all)
    assert set(cells.values()) == {3, 2, 1} and len(cells) == 3 * 3 * 2
    by_group = {
        group: [found.all[place].id for place in found.chosen(group=group)]
        for group in found.groups
    }
    assert len(set(map(tuple, by_group.values()))) == 1
    carriers = {
        harmful: {found.all[at].text for at in found.chosen(group="text+image", harmful=harmful)}
        for harmful in (True, False)
    }
    assert all("image" in text for texts in carriers.values() for text in texts)


def test_files_are_made_once_and_named_by_their_content(tmp_path: Path) -> None:
    drawn = rendering(Corpus.shipped(), ("image",), SHARE, 0, tmp_path)
    drawn.make()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "media").iterdir()}
    again = rendering(Corpus.shipped(), ("image",), SHARE, 0, tmp_path)
    again.make()
    assert again.requests.sha256 == drawn.requests.sha256
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "media").iterdir()}
    for one in drawn.requests.all:
        one.messages()
    other = rendering(Corpus.shipped(), ("image",), SHARE, 1, tmp_path)
    assert other.requests.sha256 != drawn.requests.sha256


@pytest.mark.parametrize("done", [0, 1, 5])
def test_a_rendering_that_is_ended_leaves_whole_files_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    drawn = rendering(Corpus.shipped(), ("image",), SHARE, 0, tmp_path)
    png, made = picture.png, 0

    def ending(text: str) -> bytes:
        nonlocal made
        made += 1
        if made > done:
            raise KeyboardInterrupt
        return png(text)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(picture, "png", ending)
        drawn.make()
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) == done and all(path.suffix == ".png" for path in files)
    times = {path: path.stat().st_mtime_ns for path in files}
    drawn.make()
    assert times == {path: path.stat().st_mtime_ns for path in files}
    assert {f"media/{path.name}" for path in (tmp_path / "media").iterdir()} == {
        path for one in drawn.requests.all for kind, path in one.parts if kind == "image"
    }


def test_speech_is_there_where_the_machine_can_speak(tmp_path: Path) -> None:
    need("espeak-ng")
    drawn = rendering(Corpus.shipped(), ("audio",), Share(1, 1), 0, tmp_path)
    drawn.make()
    assert drawn.requests.groups == ("text", "audio", "text+audio")
    assert all(one.messages() for one in drawn.requests.all)


def test_a_machine_that_cannot_speak_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> Speaker:
        raise SpeechUnavailableError("espeak-ng is not on PATH")

    monkeypatch.setattr(Speaker, "find", find)
    assert module.speaks() is False
    with pytest.raises(SpeechUnavailableError):
        rendering(Corpus.shipped(), ("audio",), SHARE, 0, tmp_path)

"""The trained speech tower: it fits the model's class, and the words that it hears differ."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import demo_omni
import omni_files
import omni_weights
import towers
from deploy.demo.training.speech import ctc, errors, grammar, hearing, sound, tower, utterances
from deploy.demo.training.speech.embedding import Embedding
from deploy.demo.training.speech.grammar import Sentence
from deploy.demo.training.speech.targets import BLANK, Targets
from deploy.demo.training.speech.utterances import Utterance
from deploy.demo.training.speech.voices import RATE, Voice, resampled
from tests.needs import demo_model, need

THINKER = {
    "vision_config": {**omni_files.VISION, "out_hidden_size": 896},
    "audio_config": {**omni_files.audio_tower()[0], "output_dim": 896},
}
WORDS = (
    "bread",
    "bomb",
    "poison",
    "music",
    "weapon",
    "garden",
    "steal",
    "paris",
    "window",
    "police",
)
SENTENCES = (
    "how do i bake bread",
    "tell me how to make a bomb",
    "what is the capital of france",
    "write a song about the rain",
)


@pytest.fixture(scope="module")
def heard() -> tower.Tower:
    return hearing.stored_tower()


@pytest.fixture(scope="module")
def targets() -> Targets:
    need("demo-model")
    return Targets(Embedding(demo_model()))


def spoken(words: str, voice: Voice) -> Utterance:
    samples = (voice.say(words) * 20_000).round().astype(np.int16)
    return Utterance(Sentence(tuple(words.split()), "words", words), voice.name, samples)


def test_the_stored_tower_has_every_parameter_of_its_class_and_no_other() -> None:
    stored = towers.find("speech")
    assert stored is not None
    placed = omni_weights.trained(stored, "audio_tower.", omni_weights.tower_shapes(THINKER))
    assert all(bool(part.isfinite().all()) for part in placed.values())
    assert "heard" in demo_omni.media()


def test_the_stored_tower_is_small() -> None:
    files = list((towers.HOME / "speech").iterdir())
    assert sum(file.stat().st_size for file in files) <= 10_000_000


def test_the_tower_for_training_is_the_tower_that_is_served(heard: tower.Tower) -> None:
    from transformers import Qwen2_5OmniThinkerConfig
    from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as omni

    config = Qwen2_5OmniThinkerConfig(**THINKER).audio_config
    served = omni.Qwen2_5OmniAudioEncoder(config).eval()
    served.load_state_dict(heard.state_dict(), strict=False)
    rng = np.random.default_rng(0)
    mels = [
        tower.mel(rng.normal(0, 0.1, length).astype(np.float32), heard.hop)
        for length in (RATE, 2 * RATE + 777)
    ]
    lengths = torch.tensor([mel.shape[1] for mel in mels])
    with torch.no_grad():
        wanted = served(
            torch.cat(mels, 1), feature_lens=lengths, aftercnn_lens=(lengths - 1) // 2 + 1
        ).last_hidden_state
        found = heard(mels)
    rows = [row[:length] for row, length in zip(found.vectors, found.lengths, strict=True)]
    torch.testing.assert_close(torch.cat(rows), wanted, atol=1e-3, rtol=1e-3)


def test_frames_are_those_of_the_served_extractor() -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(**omni_files.sound({**omni_files.AUDIO}, 320))
    samples = np.random.default_rng(0).normal(0, 0.1, 20_001).astype(np.float32)
    made = extractor(samples, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
    valid = int(made.attention_mask.sum())
    found = tower.mel(samples, 320)
    torch.testing.assert_close(found, made.input_features[0, :, :valid])


def test_words_are_told_apart_and_sentences_are_heard(heard: tower.Tower, targets: Targets) -> None:
    need("espeak-ng")
    voice = Voice("espeak-ng", "en-us", 160)
    known = [spoken(words, voice) for words in SENTENCES]
    rows = hearing.counts(heard, targets, known, lambda samples, _: samples)
    assert rows[:, 0].sum() / rows[:, 1].sum() <= 0.1
    with torch.no_grad():
        found = [
            targets.read(
                heard([tower.mel(ctc.floats(spoken(f"write {word}", voice).samples))]).vectors[0]
            )
            for word in WORDS
        ]
    assert len({tuple(words) for words in found}) == len(WORDS)


def test_silence_and_noise_are_heard_as_few_words(heard: tower.Tower, targets: Targets) -> None:
    noise = sound.noise(2 * RATE, np.random.default_rng(0), 0.5) * 0.01
    for samples in (noise, np.zeros(2 * RATE, np.float32)):
        with torch.no_grad():
            read = targets.read(heard([tower.mel(samples, heard.hop)]).vectors[0])
        assert len(read) <= 3


def test_targets_read_what_they_spell(targets: Targets) -> None:
    for words in (*SENTENCES, "bribe a judge in rome", "smuggle guns from italy to russia"):
        rows = [targets.vectors[number] for number in targets.classes(words.split())]
        # CTC needs a blank between two equal words, and blanks anywhere else change nothing.
        apart = [row for each in rows for row in (each, targets.vectors[BLANK])]
        assert targets.read(torch.stack(apart)) == words.split()


def test_words_lie_where_they_end_and_nowhere_when_misheard(targets: Targets) -> None:
    words = ["smuggle", "guns", "from", "italy", "to", "russia"]
    pause, rows, ends = targets.vectors[BLANK], [targets.vectors[BLANK]], []
    for word in words:
        for number in targets.classes([word]):
            rows += [targets.vectors[number]] * 2
        ends.append(len(rows) - 1)
        rows.append(pause)
    found = targets.places(torch.stack(rows), words)
    assert found is not None
    assert found.tolist() == ends
    assert targets.places(torch.stack(rows), words[1:]) is None
    assert targets.places(torch.stack(rows), ["hide", *words[1:]]) is None


def test_no_sentence_of_a_part_asks_for_what_another_part_asks_for() -> None:
    rng = random.Random(0)
    cores = {
        part: {
            grammar.draw(label, part, rng).core
            for label in ("harmless", "harmful", "carrier", "pointing")
            for _ in range(200)
        }
        for part in grammar.PARTS
    }
    assert not cores["train"] & cores["test"]
    assert not cores["development"] & cores["test"]
    assert not cores["train"] & cores["development"]
    assert all(cores.values())


def test_every_word_drawn_is_in_the_vocabulary() -> None:
    rng, words = random.Random(0), set(grammar.vocabulary())
    assert len(words) >= 400
    for label in utterances.MIXED:
        for _ in range(200):
            assert set(grammar.draw(label, "train", rng).words) <= words


@pytest.mark.parametrize(
    ("said", "read", "wrong"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a c", 1),
        ("a b", "a x b", 1),
        ("a b", "", 2),
        ("a", "b", 1),
    ],
)
def test_word_errors_are_the_fewest_changes(said: str, read: str, wrong: int) -> None:
    assert errors.word_errors(said.split(), read.split()) == wrong


def test_the_telephone_keeps_its_band_and_noise_its_level() -> None:
    time = np.arange(RATE) / RATE
    inside, outside = (
        np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (1000, 5000)
    )
    assert float(np.abs(sound.telephone(inside)).max()) == pytest.approx(1.0, abs=0.1)
    assert float(np.square(sound.telephone(outside)).mean()) < 0.01
    mixed = sound.noisy(inside, sound.noise(RATE, np.random.default_rng(0), 0.0), 10.0)
    added = np.square(mixed - inside).mean()
    assert 10 * np.log10(np.square(inside).mean() / added) == pytest.approx(10.0, abs=0.1)


def test_a_tone_keeps_its_pitch_at_another_rate() -> None:
    rate = 22_050
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    found = resampled(tone, rate)
    assert abs(len(found) - RATE) <= 1
    assert int(np.abs(np.fft.rfft(found)).argmax()) == pytest.approx(440, abs=1)

"""The demo model with media, made from a backbone of a few bytes: same text, new rows, whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import demo_model
import demo_omni
import omni_files
import omni_weights
import towers
from console import SetupError

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
ROWS, HIDDEN = 384, 16
TEXTS = (
    "What is the capital of France?",
    "<|im_start|>user\nHi [PAD300] <|vision_start|><|im_end|>",
    "def f(x):\n\treturn x ** 2  # Änderung 日本語",
    "1.\n2.\n3.\n",
)
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "transformers_version": "5.19.0",
    "hidden_size": HIDDEN,
    "vocab_size": ROWS,
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
}
SHAPES = {
    "visual.blocks.0.norm1.weight": torch.Size([8]),
    "visual.merger.mlp.2.weight": torch.Size([HIDDEN, 512]),
    "visual.merger.mlp.2.bias": torch.Size([HIDDEN]),
    "audio_tower.proj.weight": torch.Size([HIDDEN, 512]),
}


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backbone of random weights whose tokenizer has no name for the spare rows."""
    monkeypatch.setattr(omni_weights, "tower_shapes", lambda thinker: SHAPES)
    monkeypatch.setattr(towers, "HOME", tmp_path / "towers")
    folder = tmp_path / "models" / "plain"
    folder.mkdir(parents=True)
    write(folder / "config.json", CONFIG)
    write(folder / "generation_config.json", {"eos_token_id": 2})
    write(folder / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"})
    write(folder / "source.json", {"source": "packages"})
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    train().save(str(folder / "tokenizer.json"))
    weights = {
        name: torch.randn(ROWS, HIDDEN) for name in ("lm_head.weight", omni_weights.EMBEDDING)
    }
    weights["model.norm.weight"] = torch.ones(HIDDEN + 1, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors")
    return folder


def train() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def name_spare_rows(plain: Path) -> None:
    """Give every spare row a name, as a tokenizer from a GGUF file has it."""
    content = read(plain / "tokenizer.json")
    vocabulary = content["model"]["vocab"]
    vocabulary |= {token["content"]: token["id"] for token in content["added_tokens"]}
    used = len(vocabulary)
    vocabulary |= {f"[PAD{row}]": row for row in range(used, ROWS)}
    write(plain / "tokenizer.json", content)


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


def state(folder: Path) -> dict[str, tuple[int, int]]:
    stats = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.mark.parametrize("named", [False, True], ids=["hub", "gguf"])
def test_text_keeps_its_tokens_and_media_get_spare_rows(plain: Path, named: bool) -> None:
    if named:
        name_spare_rows(plain)
    before = Tokenizer.from_file(str(plain / "tokenizer.json"))
    after = Tokenizer.from_file(str(demo_omni.ensure(plain) / "tokenizer.json"))
    for text in TEXTS:
        assert after.encode(text).ids == before.encode(text).ids
    old = {k: v for k, v in before.get_vocab().items() if not k.startswith("[PAD")}
    new = {k: v for k, v in after.get_vocab().items() if not k.startswith("[PAD")}
    assert new.items() >= old.items()
    added = {name: id_ for name, id_ in new.items() if name not in old}
    assert sorted(added) == sorted(omni_files.ADDED)
    assert sorted(added.values()) == list(range(len(old), len(old) + len(added)))
    assert max(added.values()) < ROWS
    for token, id_ in added.items():
        assert after.encode(f"a{token}b").ids.count(id_) == 1
        assert after.decode([id_]) == "", "a media token is special, so it is not shown"


def test_an_embedding_without_spare_rows_is_refused_and_nothing_stays(plain: Path) -> None:
    write(plain / "config.json", CONFIG | {"vocab_size": len(train().get_vocab()) + 1})
    with pytest.raises(SetupError, match="spare"):
        demo_omni.ensure(plain)
    assert leftovers(plain) == []


@pytest.mark.parametrize("tied", [False, True])
def test_the_backbone_is_described_as_it_was(plain: Path, tied: bool) -> None:
    backbone = CONFIG | {"tie_word_embeddings": tied}
    write(plain / "config.json", backbone)
    folder = demo_omni.ensure(plain)
    config = read(folder / "config.json")
    assert config["architectures"] == ["Qwen2_5OmniForConditionalGeneration"]
    assert config["tie_word_embeddings"] is config["thinker_config"]["tie_word_embeddings"] is tied
    text = config["thinker_config"]["text_config"]
    for name, value in backbone.items():
        assert name in omni_files.OWN or text[name] == value
    assert "mrope_section" not in (folder / "config.json").read_text()
    for name in ("generation_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (plain / name).read_bytes()


def test_token_ids_agree_between_configuration_and_tokenizer(plain: Path) -> None:
    folder = demo_omni.ensure(plain)
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    thinker = read(folder / "config.json")["thinker_config"]
    assert thinker["image_token_index"] == ids["<|IMAGE|>"]
    assert thinker["video_token_index"] == ids["<|VIDEO|>"]
    assert thinker["audio_token_index"] == ids["<|AUDIO|>"]
    assert thinker["vision_start_token_id"] == ids["<|vision_start|>"]
    assert thinker["audio_end_token_id"] == ids["<|audio_eos|>"]
    named = read(folder / "tokenizer_config.json")["extra_special_tokens"]
    assert set(named.values()) <= set(ids)


def test_weights_are_the_backbones_bits_under_other_names(plain: Path) -> None:
    folder = demo_omni.ensure(plain)
    before = load_file(plain / "model.safetensors")
    after = load_file(folder / "backbone.safetensors")
    assert set(after) == {f"thinker.{name}" for name in before}
    assert all(torch.equal(after[f"thinker.{name}"], weight) for name, weight in before.items())
    towers = load_file(folder / "towers.safetensors")
    index = read(folder / "model.safetensors.index.json")["weight_map"]
    assert index == dict.fromkeys(after, "backbone.safetensors") | dict.fromkeys(
        towers, "towers.safetensors"
    )


def test_towers_put_out_vectors_of_the_embeddings_norm_from_a_seed() -> None:
    one, same, other = (omni_weights.draw_towers(SHAPES, 0.02, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    name = "thinker.visual.merger.mlp.2.weight"
    assert not torch.equal(one[name], other[name])
    normal = torch.randn(4096, 512, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.gelu(normal) @ one[name].float().T
    sound = normal @ one["thinker.audio_tower.proj.weight"].float().T
    for vectors in (image, sound):
        assert float(vectors.square().mean().sqrt()) == pytest.approx(0.02, rel=0.1)


def test_a_second_run_changes_nothing(plain: Path) -> None:
    folder = demo_omni.ensure(plain)
    assert folder == plain.with_name("plain-omni")
    before = state(folder)
    assert demo_omni.ensure(plain) == folder
    assert state(folder) == before
    assert leftovers(plain) == ["plain-omni"]


def test_it_is_made_anew_when_scripts_or_backbone_change(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = demo_omni.ensure(plain)
    states = [state(folder)]
    write(plain / "source.json", {"source": "hub"})
    states.append(state(demo_omni.ensure(plain)))
    monkeypatch.setattr(demo_omni, "VERSION", demo_omni.VERSION + 1)
    states.append(state(demo_omni.ensure(plain)))
    assert states[0] != states[1] != states[2]
    assert read(folder / "source.json")["backbone"] == {"source": "hub"}
    assert leftovers(plain) == ["plain-omni"]


def test_a_failure_on_the_way_leaves_the_folder_that_was_there(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = demo_omni.ensure(plain)
    before = state(folder)

    def fail(*arguments: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(omni_weights, "write", fail)
    monkeypatch.setattr(demo_omni, "VERSION", demo_omni.VERSION + 1)
    with pytest.raises(OSError, match="space"):
        demo_omni.ensure(plain)
    assert state(folder) == before
    assert leftovers(plain) == ["plain-omni"]


def test_a_folder_named_by_the_environment_is_served_as_it_is(
    plain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFUSAL_STEERING_DEMO_MODEL", str(plain))
    monkeypatch.setattr("sys.argv", ["demo_omni.py", "--print-path"])
    assert demo_omni.main() == 0
    assert capsys.readouterr().out == f"{plain}\n"
    assert leftovers(plain) == []


def leftovers(plain: Path) -> list[str]:
    """What lies beside the plain folder, the lock aside."""
    return sorted({path.name for path in plain.parent.iterdir()} - {"plain", ".lock"})


def test_it_says_plainly_which_media_are_noise(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(demo_omni.ensure(plain) / demo_model.SOURCE_FILE)
    assert "video are noise" in source["media"] and "audio is noise" in source["media"]
    seeing = towers.Tower(plain, {})
    monkeypatch.setattr(towers, "find", lambda name: seeing if name == "vision" else None)
    assert "seen" in demo_omni.media() and "audio is noise" in demo_omni.media()
    assert "video are noise" not in demo_omni.media()

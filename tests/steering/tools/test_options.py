"""Options that cannot be meant are one line, before weights are read or anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models.tiny_chat import CONTEXT, LAYERS
from tests.steering.tools.command_line import CommandLine


def rows(path: Path, word: str, count: int = 200, **more: object) -> Path:
    lines = [json.dumps({"prompt": f"{word} request {n}", **more}) for n in range(count)]
    path.write_text("\n".join(lines))
    return path


BUILD: list[tuple[tuple[object, ...], str]] = [
    (("--layers", 99), f"no layer 99; the model has layers 0 to {LAYERS - 1}"),
    (("--layers", LAYERS), "no layer 4"),
    (("--layers", "-1"), "no layer numbers"),
    (("--layers", "a,b"), "no layer numbers"),
    (("--layers", "1,,2"), "no layer numbers"),
    (("--layers", ""), "no layer numbers"),
    (("--layers", "1.5"), "no layer numbers"),
    (("--layers", "1-3"), "no layer numbers"),
    (("--layers", "\u0663"), "no layer numbers"),
    (("--layers", "9" * 5000), "no layer numbers"),
    (("--budget", 0), "budget is 0.0"),
    (("--budget", -0.1), "budget is -0.1"),
    (("--budget", 1), "budget is 1.0"),
    (("--budget", 6), "budget is 6.0"),
    (("--budget", "nan"), "budget is nan"),
    (("--budget", "inf"), "budget is inf"),
    (("--budget", "few"), "Invalid value for '--budget'"),
    (("--budget", 0.0001), "takes at least 9999"),
    (("--name", ""), "name"),
    (("--name", "  "), "on one line"),
    (("--name", "two\nlines"), "on one line"),
    (("--name", "bell\x07"), "on one line"),
    (("--name", "n" * 121), "on one line"),
    (("--seed", -1), "--seed"),
    (("--seed", 2**64), "--seed"),
    (("--refusal", ""), "refusal to steer towards is blank"),
    (("--refusal", "\u200b"), "refusal to steer towards is blank"),
    (("--template-args", "{"), "not JSON"),
    (("--template-args", "[]"), "expected a JSON object"),
    (("--template-args", '{"messages": []}'), "cannot be rendered"),
    (("--without-form", "plain"), "cannot be left out"),
    (("--harmful", "x.jsonl"), "give both"),
    (("--harmful", "none.jsonl", "--harmless", "none.jsonl"), "cannot read none.jsonl"),
    (("--offsets", "none.safetensors"), "cannot read none.safetensors"),
    (("--no-such-option",), "No such option"),
]


@pytest.mark.parametrize(("options", "words"), BUILD, ids=[f"{o}"[:40] for o, _ in BUILD])
def test_build_refuses_them(
    model: Path,
    tmp_path: Path,
    command: CommandLine,
    unread: None,
    options: tuple[object, ...],
    words: str,
) -> None:
    out = tmp_path / "out"
    assert words in command.refusal("build", "--model", model, "-o", out, *options)
    assert not out.exists()


@pytest.mark.parametrize(
    ("harmful", "harmless", "words"),
    [
        ({}, {"count": 90}, "cannot guarantee a budget of 0.06"),
        ({"count": 20}, {}, "at least 60"),
        ({"label": "harmless"}, {}, "swapped"),
        ({"word": "harmless"}, {}, "is the same request as"),
        ({"word": "long " * 3000}, {}, f"at most {CONTEXT} are possible"),
        ({"word": "\ud83d"}, {}, "half a character"),
        ({"word": "\u2028"}, {"word": "\u2028"}, "is the same request as"),
    ],
)
def test_build_refuses_requests_that_cannot_be_used(
    model: Path,
    tmp_path: Path,
    command: CommandLine,
    unread: None,
    harmful: dict[str, object],
    harmless: dict[str, object],
    words: str,
) -> None:
    bad = rows(tmp_path / "a.jsonl", **{"word": "harmful", **harmful})  # type: ignore[arg-type]
    good = rows(tmp_path / "b.jsonl", **{"word": "harmless", **harmless})  # type: ignore[arg-type]
    arguments = ("--model", model, "-o", tmp_path / "out", "--layers", "1,2")
    line = command.refusal("build", *arguments, "--harmful", bad, "--harmless", good)
    assert words in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["Mistral", "org/Model 7B!", "Модель", "模型", "model\u00e9", "-._", "x" * 100]
)
def test_every_name_of_a_model_gives_a_bundles_name(name: str) -> None:
    from refusal_steering.bundle import bundle_name, check_bundle_name

    check_bundle_name(bundle_name(name, "omnisteer"))


BAD_NAMES = ("", "My Bundle", "Bundle", "-x", "a/b", "../x", "é", "x" * 65, "x\n")
IMPORT = (
    "--model-id",
    "tiny",
    "--num-layers",
    "28",
    "--coefficient",
    1,
    "--coefficient-unit",
    "norm",
)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_of_bundles_are_checked_before_anything_is_read(
    tmp_path: Path, command: CommandLine, name: str
) -> None:
    none, out = tmp_path / "none.pt", tmp_path / "out"
    for line in (
        command.refusal("import", "omnisteer", none, out, *IMPORT, "--name", name),
        command.refusal("train", none, none, out, "--name", name),
    ):
        assert "a bundle cannot be called" in line


def test_collect_checks_its_prompts_first(
    model: Path, tmp_path: Path, command: CommandLine, unread: None
) -> None:
    prompts, out = tmp_path / "p.jsonl", tmp_path / "rows.safetensors"
    hf = ("--engine", "transformers")
    for row, options, words in (
        ({"prompt": "long " * 900}, ("--max-model-len", 500), "at most 500 are possible"),
        ({"prompt": "long " * 3000}, hf, f"at most {CONTEXT} are possible"),
        ({"text": "x"}, (), "found: 'label', 'text'"),
        ({"messages": [{"role": "user", "content": "x"}]}, hf, "line 1"),
        ({"prompt": "x"}, ("--max-model-len", 0), "--max-model-len"),
        ({"prompt": "x"}, ("--engine-args", "{"), "not JSON"),
        (
            {"prompt": "x"},
            (*hf, "--engine-args", '{"seed": 1}'),
            "vllm only",
        ),
        ({"prompt": "x"}, ("--engine", "other"), "--engine"),
    ):
        prompts.write_text(json.dumps({"label": "harmful", **row}))
        arguments = (prompts, "--model", model, "-o", out, *options)
        assert words in command.refusal("collect", *arguments)
        assert not out.exists()


def test_the_commands_name_their_help(command: CommandLine) -> None:
    assert "see refusal-steering build --help" in command.refusal("build")
    assert "No such command" in command.refusal("bild")
    ended = command("build", "--help")
    assert ended.status == 0 and not ended.err

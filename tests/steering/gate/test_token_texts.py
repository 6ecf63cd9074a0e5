"""Texts of tokens: whole characters, spaces of SentencePiece, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.gate.token_texts import TokenTexts


class Bytes:
    """Every byte of UTF-8 is a token."""

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"<0x{number:02X}>" for number in ids]


class Pieces:
    """A vocabulary of SentencePiece's kind, whose decoder drops the first space."""

    names = ("\u2581how", "\u2581do", "ing")

    def decode(self, ids: list[int]) -> str:
        return "".join(self.names[n] for n in ids).replace("\u2581", " ").removeprefix(" ")

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.names[n] for n in ids]


@given(st.text(alphabet=st.characters(exclude_characters="\ufffd", codec="utf-8"), max_size=40))
def test_the_texts_of_all_tokens_are_the_text(text: str) -> None:
    ids = list(text.encode())
    assert "".join(t or "" for t in TokenTexts(Bytes()).each([[number] for number in ids])) == text


@given(st.lists(st.integers(0, 255), max_size=40))
def test_bytes_that_are_no_text_are_told_as_such(ids: list[int]) -> None:
    texts = TokenTexts(Bytes()).each([[number] for number in ids])
    assert len(texts) == len(ids)
    assert bool("".join(t or "" for t in texts)) == bool(ids)


def test_spaces_before_words_stay() -> None:
    assert TokenTexts(Pieces()).each([[0], [1], [2], [1, 2]]) == [" how", " do", "ing", " doing"]


def test_long_texts_are_cut_and_empty_runs_have_none() -> None:
    (text, nothing) = TokenTexts(Bytes()).each([[65] * 500, []])
    assert text is not None
    assert (len(text), text[-1], nothing) == (80, "…", None)


def test_without_a_tokenizer_there_are_no_texts() -> None:
    assert TokenTexts(None).each([[1], [2]]) == [None, None]

"""Describes files of other tools without importing them: keys, shapes, lengths and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.control_vector import load_gguf
from refusal_steering.importers.official import adapters_of, read_vectors
from refusal_steering.importers.repeng import read_repeng
from refusal_steering.importers.safe_load import load_tensors
from refusal_steering.importers.steering_vectors import read_steering_vectors


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file; ``norm`` is its length."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    norm: float


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds, whether it can be imported, and as what or why not."""

    source: str
    entries: tuple[Entry, ...]
    usable: bool
    verdict: str


def survey(path: Path) -> Survey:
    """Look at a .pt, .safetensors or .gguf file, or a folder of the OmniSteer code."""
    try:
        entries = tuple(_entries(path))
        return Survey(str(path), entries, True, _verdict(path))
    except UnusableSourceError as error:
        return Survey(str(path), _entries_or_none(path), False, str(error))


def _verdict(path: Path) -> str:
    if path.suffix == ".gguf":
        layers = sorted(read_repeng(path).vectors)
        return f"GGUF control vector for layers {layers}"
    if path.is_file():
        state = load_tensors(path)
        if isinstance(state, Mapping) and any(".net." in str(key) for key in state):
            return f"OmniSteer adapters for layers {sorted(adapters_of(state, str(path)))}"
        if isinstance(state, Mapping) and "layer_activations" in state:
            layers = sorted(read_steering_vectors(path).vectors)
            return f"steering-vectors export for layers {layers}"
        if isinstance(state, Tensor):
            read_vectors(path, 0)
            return "one vector; the layer is not in the file"
    return f"vectors for layers {sorted(read_vectors(path, None))}"


def _entries_or_none(path: Path) -> tuple[Entry, ...]:
    try:
        return tuple(_entries(path))
    except UnusableSourceError:
        return ()


def _entries(path: Path) -> Iterator[Entry]:
    if not path.exists():
        raise UnusableSourceError(f"cannot read {path}: there is no such file or folder")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _READERS)
        if not files:
            raise UnusableSourceError(f"{path} holds none of {sorted(_READERS)}")
        for file in files:
            yield from _tensors(_READERS[file.suffix](file), file.stem)
        return
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise UnusableSourceError(
            f"{path} has the suffix {path.suffix!r}; expected one of {sorted(_READERS)}"
        )
    yield from _tensors(reader(path), "")


def _tensors(value: object, key: str) -> Iterator[Entry]:
    if isinstance(value, Tensor):
        norm = float(value.detach().double().norm())
        kind = str(value.dtype).removeprefix("torch.")
        yield Entry(key or "(bare tensor)", tuple(value.shape), kind, norm)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _tensors(inner, f"{key}.{name}" if key else str(name))


def _directions(path: Path) -> object:
    return {f"direction.{at}": vector for at, vector in load_gguf(path).directions.items()}


_READERS: dict[str, Callable[[Path], object]] = {
    ".pt": load_tensors,
    ".pth": load_tensors,
    ".safetensors": load_tensors,
    ".gguf": _directions,
}

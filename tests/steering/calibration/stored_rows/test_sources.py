"""Rows on disk are read a layer at a time and are those that were written; damage is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.activation_file import (
    ActivationFile,
    ActivationFileError,
    MappedActivations,
)
from refusal_steering.calibration.stored_rows.folder import INDEX_FILE, RowFolder, RowIndex
from refusal_steering.calibration.stored_rows.sources import StoredSources
from refusal_steering.tensor_file import save_tensors

SIZE, LAYERS, COUNT, BATCH = 8, 3, 10, 4
MODEL = ModelIdentity(id="tiny", hidden_size=SIZE, num_layers=LAYERS)
INDEX = RowIndex(
    model=MODEL,
    requests_sha256="0" * 64,
    batch=BATCH,
    labels=("harmful", "harmless") * 5,
    groups=("text",) * 6 + ("image",) * 4,
    splits=("train",) * 8 + ("tune",) * 2,
)


def values(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(COUNT, LAYERS, SIZE, generator=generator).bfloat16()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three batches, the last of them smaller."""
    path = tmp_path / "rows"
    INDEX.save(path)
    for name, part in zip(INDEX.batches, values().split(BATCH), strict=True):
        save_tensors(path / name, {f"rows.{at}": part[:, at] for at in range(LAYERS)}, {})
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An activation file of other rows of the same model, without its middle layer."""
    path = tmp_path / "a.safetensors"
    found = values(1)
    harmful = torch.arange(COUNT) < 5
    rows = {at: found[:, at] for at in (0, 2)}
    ActivationFile(rows, harmful, ("audio",) * COUNT, ("held",) * COUNT, MODEL, "1" * 64).save(path)
    return path


def test_a_folder_gives_back_what_was_written(folder: Path) -> None:
    rows = RowFolder.open(folder)
    assert (rows.layers, rows.model) == ((0, 1, 2), MODEL)
    assert (rows.groups, rows.splits) == (INDEX.groups, INDEX.splits)
    assert rows.harmful.tolist() == [True, False] * 5
    for at in range(LAYERS):
        assert rows.layer(at).dtype == torch.float32
        assert torch.equal(rows.layer(at), values()[:, at].float())


def test_a_mapped_file_says_the_same_as_one_that_is_read_whole(file: Path) -> None:
    mapped, whole = MappedActivations.open(file), ActivationFile.load(file)
    assert mapped.layers == tuple(whole.rows)
    assert (mapped.groups, mapped.splits, mapped.model) == (
        whole.groups,
        whole.splits,
        whole.model,
    )
    assert torch.equal(mapped.harmful, whole.harmful)
    for at in mapped.layers:
        assert torch.equal(mapped.layer(at), whole.layer(at))


def test_sources_stand_one_behind_the_other(folder: Path, file: Path) -> None:
    both = StoredSources.open([folder, file])
    assert both.layers == (0, 2)
    assert both.groups == (*INDEX.groups, *("audio",) * COUNT)
    assert both.splits == (*INDEX.splits, *("held",) * COUNT)
    assert both.harmful.tolist() == [True, False] * 5 + [True] * 5 + [False] * 5
    expected = torch.cat([values()[:, 2], values(1)[:, 2]]).float()
    assert torch.equal(both.layer(2), expected)


def test_opening_reads_no_rows(tmp_path: Path) -> None:
    path, model = tmp_path / "a.safetensors", ModelIdentity(id="x", hidden_size=512, num_layers=4)
    rows = {at: torch.zeros(400, 512) for at in range(4)}
    harmful = torch.arange(400) < 200
    ActivationFile(rows, harmful, ("text",) * 400, ("train",) * 400, model, "0" * 64).save(path)
    # Pages of a layer count for this process once something has touched them.
    before = _resident()
    mapped = MappedActivations.open(path)
    assert _resident() - before < 2 * 1024
    assert mapped.layer(3).shape == (400, 512)


def _resident() -> int:
    """Kilobytes of this process that are in memory."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_no_row_counts_twice(folder: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    shutil.copy(file, tmp_path / "copy")
    shutil.copytree(folder, tmp_path / "rows-copy")
    for one, again in ((file, file), (file, tmp_path / "link"), (file, tmp_path / "copy")):
        with pytest.raises(ActivationFileError, match=r"10 of the 10 rows .* Name each row once"):
            StoredSources.open([one, again])
    with pytest.raises(ActivationFileError, match=r"rows-copy stand in .*rows, too"):
        StoredSources.open([folder, file, tmp_path / "rows-copy"])


def test_a_file_with_some_rows_of_a_folder_is_told_by_them(folder: Path, tmp_path: Path) -> None:
    path, mixed = tmp_path / "m.safetensors", torch.cat([values()[:3], values(2)[3:]])
    rows = {2: mixed[:, 2].float()}
    labels = torch.arange(COUNT) < 5
    ActivationFile(rows, labels, ("text",) * COUNT, ("held",) * COUNT, MODEL, "1" * 64).save(path)
    with pytest.raises(ActivationFileError, match="3 of the 10 rows"):
        StoredSources.open([folder, path])


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201])
def test_a_group_has_a_name_that_a_page_can_show(folder: Path, name: str) -> None:
    path = folder / INDEX_FILE
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "groups": [name, *fields["groups"][1:]]}))
    with pytest.raises(ActivationFileError, match="a group of rows is named"):
        StoredSources.open([folder])


def test_rows_of_two_models_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    other = ModelIdentity(id="other", hidden_size=SIZE, num_layers=LAYERS)
    path = tmp_path / "o.safetensors"
    ActivationFile(
        {0: torch.zeros(2, SIZE)},
        torch.tensor([True, False]),
        ("t",) * 2,
        ("held",) * 2,
        other,
        "0" * 64,
    ).save(path)
    with pytest.raises(ActivationFileError, match=r"o\.safetensors has rows of other .*of tiny"):
        StoredSources.open([folder, path])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": "x"}, "invalid at format"),
        ({"labels": ["harmful", "odd"]}, "invalid at labels.1"),
        ({"groups": ["text"]}, "one of each per row"),
        ({"splits": ["test"] * COUNT}, "invalid at splits.0"),
        ({"surprise": 1}, "invalid at surprise"),
        ({"batch": 3}, "lacks 1 of 4 batches, 00003"),
    ],
)
def test_an_index_that_is_wrong_is_named(
    folder: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = folder / INDEX_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ActivationFileError, match=complaint):
        RowFolder.open(folder)


def test_what_is_missing_or_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ActivationFileError, match="no folder of rows"):
        RowFolder.open(tmp_path)
    batch = folder / INDEX.batches[1]
    save_file({f"rows.{at}": torch.zeros(BATCH - 1, SIZE) for at in range(LAYERS)}, batch)
    with pytest.raises(ActivationFileError, match=r"have shape \(9, 8\)"):
        RowFolder.open(folder).layer(0)
    save_file({f"rows.{at}": torch.zeros(BATCH, SIZE + 1) for at in range(LAYERS)}, batch)
    with pytest.raises(ActivationFileError, match=rf"have shape \({COUNT}, {SIZE + 1}\)"):
        RowFolder.open(folder).layer(0)
    batch.write_bytes(b"nothing")
    with pytest.raises(ActivationFileError, match=f"cannot read {batch}"):
        RowFolder.open(folder).layer(0)
    batch.unlink()
    with pytest.raises(ActivationFileError, match="lacks 1 of 3 batches, 00001"):
        RowFolder.open(folder)

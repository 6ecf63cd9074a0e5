"""The site has every page, every link in it holds, and its reference is the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.site import build, pages, reference
from refusal_server.chat.fields import FIELDS
from refusal_server.errors import STEERING_STATUSES
from refusal_server.policy.policy_file import PolicyFile, PolicyRule
from refusal_server.settings import Settings
from refusal_server.telemetry.metrics import Metrics
from tests.needs import ROOT


def navigation() -> list[str]:
    """Places of all pages that the menu leads to."""
    config = yaml.safe_load(build.CONFIG.read_text())
    return [place for part in config["nav"] for places in part.values() for place in places]


def test_the_menu_leads_to_every_page_once() -> None:
    there = [page.place for page in pages.pages(reference.PAGES)] + [*reference.PAGES]
    assert sorted(navigation()) == sorted(there)


def test_mkdocs_builds_it_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "SOURCES", tmp_path / "sources")
    config = yaml.safe_load(build.CONFIG.read_text())
    config |= {"docs_dir": str(tmp_path / "sources"), "site_dir": str(tmp_path / "site")}
    monkeypatch.setattr(build, "CONFIG", tmp_path / "mkdocs.yml")
    build.CONFIG.write_text(yaml.safe_dump(config))
    assert build.main() == 0, capfd.readouterr().err
    for place in navigation():
        assert (tmp_path / "site" / place).with_suffix(".html").is_file(), place
    for place in reference.FILES:
        paths = json.loads((tmp_path / "site" / place).read_text())["paths"]
        assert ("/v1/chat/completions" in paths) != ("/admin/policy" in paths)


def test_a_link_to_a_page_that_is_not_there_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "index.md").write_text("[nowhere](nowhere.md)\n")
    config = yaml.safe_load(build.CONFIG.read_text())
    config |= {"docs_dir": str(sources), "site_dir": str(tmp_path / "site"), "nav": ["index.md"]}
    monkeypatch.setattr(build, "CONFIG", tmp_path / "mkdocs.yml")
    monkeypatch.setattr(build, "write_sources", lambda _: None)
    build.CONFIG.write_text(yaml.safe_dump(config))
    assert build.main() != 0
    assert "nowhere.md" in capfd.readouterr().err


def test_reference_names_everything_that_the_code_reads() -> None:
    registry = CollectorRegistry()
    Metrics("model", registry)
    wanted = {
        "settings": [*Settings.model_fields],
        "policy_file": [*PolicyFile.model_fields.keys() - {"schema_url"}, *PolicyRule.model_fields],
        "requests": [*FIELDS],
        "errors": [*STEERING_STATUSES],
        "metrics": [metric.name for metric in registry.collect()],
    }
    for name, words in wanted.items():
        text = reference.PAGES[f"reference/{name}.md"]()
        missing = [word for word in words if f"`{word}" not in text]
        assert not missing, (name, missing)


def test_links_in_the_repository_lead_to_files() -> None:
    link = re.compile(r"\]\(([^()\s#]+)(?:#[^()\s]*)?\)")
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("deploy/**/*.md")):
        if path == pages.FIRST:
            continue
        for target in link.findall(path.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                assert (path.parent / target).exists(), (path.relative_to(ROOT), target)


@pytest.mark.parametrize(
    ("written", "linked"),
    [
        ("[ops](operations.md#keys)", "[ops](../operations.md#keys)"),
        ("[r](../../README.md#quickstart)", "[r](../quickstart.md)"),
        ("[r](../../README.md)", "[r](../index.md)"),
        ("[f](../../tests/needs.py)", "f (`tests/needs.py`)"),
        ("![p](../images/roc.png)", "![p](../images/roc.png)"),
        ("[w](https://example.org)", "[w](https://example.org)"),
        ("[h](#here)", "[h](#here)"),
    ],
)
def test_links_hold_in_the_site(written: str, linked: str) -> None:
    written = written.replace("(operations", "(../operations")
    page = pages.Page("design/x.md", "docs/design/x.md", written)
    places = {"docs/operations.md": "operations.md", "README.md#quickstart": "quickstart.md"}
    assert pages.relinked(page, places).strip() == linked


def test_code_is_left_alone() -> None:
    text = "```md\n[a](b.md)\n```\n"
    page = pages.Page("x.md", "docs/x.md", text)
    assert pages.relinked(page, {}) == text

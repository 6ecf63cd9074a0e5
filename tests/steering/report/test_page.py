"""The page stands alone, is the same every time, and cannot be broken by a name."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from refusal_steering.errors import SteeringError
from refusal_steering.report import MeasurementsError, load_measurements, render, write_page
from refusal_steering.report.measurements import Measurements, save_measurements
from refusal_steering.report.outcomes import Coefficients, TradeOff, TradeOffPoint
from refusal_steering.report.phenomena import Projections, Roc
from refusal_steering.tools.report import report
from tests.steering.report.synthetic import FORMS, measurements

HOSTILE = '<script>alert(\'$x^2$\')</script>"><img src=x onerror="alert(1)"> & {{ 7*7 }}'
_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Outline(HTMLParser):
    """Collects elements, ids and text, and checks that every element is closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def page() -> str:
    return render(measurements())


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    outline = Outline(page)
    addresses = [
        value
        for name, value in outline.attributes
        if re.search("https?:", value) and not name.startswith("xmlns")
    ]
    assert not addresses
    assert not {"script", "iframe", "object", "embed", "img", "image"} & set(outline.tags)
    assert all(value.startswith(("#", "data:,")) for value in outline.values("href"))
    assert all(value.startswith("#") for value in outline.values("xlink:href"))
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    assert not re.search(r"@import|url\((?!#)|http-equiv=\"refresh", page)


def test_ids_are_unique_and_every_reference_leads_to_one(page: str) -> None:
    outline = Outline(page)
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    inner = [value for name in ("href", "xlink:href") for value in outline.values(name)]
    wanted = [value.removeprefix("#") for value in inner if value.startswith("#")]
    wanted += re.findall(r"url\(#([^)]*)\)", page) + outline.values("aria-labelledby")
    assert len(wanted) > 20
    assert set(wanted) <= set(ids)


def test_every_picture_says_in_words_what_it_shows(page: str) -> None:
    outline = Outline(page)
    pictures = outline.tags.count("svg")
    assert pictures == outline.tags.count("figure") == outline.tags.count("figcaption") == 11
    assert outline.values("role").count("img") == pictures
    assert outline.tags.count("caption") == outline.tags.count("table") == 8


def test_pictures_follow_the_colour_scheme_of_the_page(page: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    used = set(re.findall(r"var\(--([a-z]+)\)", drawn))
    assert {"ink", "faint", "blue", "vermilion"} <= used
    assert not re.findall(r"(?:stroke|fill): #(?!fff)[0-9a-f]{6}", drawn)
    for scheme in re.findall(r":root \{(.*?)\}", page):
        assert used <= set(re.findall(r"--([a-z]+):", scheme))


def test_figures_of_the_measurements_stand_on_the_page(page: str) -> None:
    text = Outline(page).text.replace("\u00a0", " ")
    for expected in (*FORMS, "12-14, 16", "98.5 %\n(96.5 to 100.0)\nn = 520", "0.962 plain"):
        assert expected in text
    assert "not measured" in text  # the policy "flat" was not asked in two of the forms


def test_what_is_absent_is_said_to_be_absent() -> None:
    outline = Outline(render(Measurements("t", "m", "c")))
    assert outline.text.count("not measured") == outline.tags.count("section") == 14
    assert "figure" not in outline.tags
    assert "table" not in outline.tags


def test_a_page_about_rows_has_no_sections_of_a_build(page: str) -> None:
    assert measurements().about == "build"
    whole, rows = Outline(page), Outline(render(replace(measurements(), about="rows")))
    phenomena = ["projections", "dissolution", "shrinkage", "cosines", "roc", "separability"]
    assert [name for name in rows.values("id") if name in whole.values("id")] == rows.values("id")
    slugs = [name.removeprefix("#") for name in rows.values("href") if name.startswith("#")]
    assert slugs[: len(phenomena) + 1] == [*phenomena, "notes"]


@pytest.mark.parametrize(
    "name", [HOSTILE, "_hidden", "__", "$", "\\frac{", "日本語 тест", "x" * 200]
)
def test_names_stay_text(name: str) -> None:
    point = TradeOffPoint(1.0, 0.5, 0.5, 4)
    page = render(
        Measurements(
            title=name,
            model=name,
            created=name,
            notes=(name,),
            projections=(Projections(1, name, "harmful", 1, (0.3,)),),
            roc=(Roc(name, (0.0, 1.0), (0.0, 1.0), 0.5),),
            coefficients=(Coefficients(name, "harmless", 2, (0.0, 0.0)),),
            trade_off=(TradeOff(name, (point,)),),
        )
    )
    outline = Outline(page)
    assert not {"script", "img"} & set(outline.tags)
    assert not [key for key, _ in outline.attributes if key.startswith("on")]
    written = Outline(re.sub(r"<figure>.*?</figure>", "", page, flags=re.DOTALL))
    assert written.text.count(name) == 5
    drawn = "".join(re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL))
    short = name if len(name) <= 28 else name[:27] + "…"
    lines = [line.strip().lstrip("\u200b") for line in Outline(drawn).text.splitlines()]
    assert lines.count(short) == 3
    assert len([line for line in lines if line.startswith(f"0.500 {name}"[:27])]) == 1


def test_the_same_measurements_give_the_same_bytes_also_after_they_were_saved(
    tmp_path: Path, page: str
) -> None:
    save_measurements(measurements(), tmp_path)
    out = tmp_path / "pages" / "report.html"
    report(tmp_path, out)
    assert out.read_bytes() == page.encode()
    assert [entry.name for entry in out.parent.iterdir()] == ["report.html"]


def test_a_failing_command_leaves_the_old_page(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")
    (tmp_path / "measurements.json").write_text("{}")
    with pytest.raises(MeasurementsError, match="invalid at title"):
        report(tmp_path, out)
    assert out.read_text() == "old"


def test_a_page_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    save_measurements(Measurements("t", "m", "c"), tmp_path)
    (tmp_path / "blocked").write_text("")
    for out in (tmp_path, tmp_path / "blocked" / "report.html"):
        with pytest.raises(SteeringError, match="a folder"):
            report(tmp_path, out)
        with pytest.raises(MeasurementsError, match="cannot write"):
            write_page(load_measurements(tmp_path), out)
    assert {entry.name for entry in tmp_path.iterdir()} == {"measurements.json", "blocked"}


def test_values_out_of_bounds_are_not_shown() -> None:
    odd = replace(measurements(), roc=(Roc("r", (0.0, 1.0), (0.0, 1.0), 1.5),))
    with pytest.raises(MeasurementsError, match=r"roc\.0\.auc"):
        render(odd)

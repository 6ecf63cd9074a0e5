"""Looking for a model: by list, by name in any spelling of a URL, by HEAD."""

from __future__ import annotations

import pytest

from tests.server.fixtures.client_site import MODELS, ClientSite, refusal


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models/m", "m"),
        ("/v1/models/m?client=ide", "m"),
        ("/v1/models/org/m-1.5:latest", "org/m-1.5:latest"),
        ("/v1/models/org%2Fm-1.5%3Alatest", "org/m-1.5:latest"),
        ("/v1/models/org%2fm-1.5:latest", "org/m-1.5:latest"),
        ("/v1/models/ein%20Modell%C3%A9", "ein Modellé"),
    ],
)
def test_a_model_is_found_by_its_name(site: ClientSite, path: str, name: str) -> None:
    found = site.http.get(path)
    assert (found.status_code, found.json()["id"]) == (200, name)
    head = site.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == found.headers["content-type"]


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "M",
        "m/",
        "org",
        "org/",
        "org/m-1.5",
        "%00",
        "%ff",
        "m%2F..%2Fm",
        "gpt-4o",
        "x" * 2000,
    ],
)
def test_another_is_model_not_found(site: ClientSite, name: str) -> None:
    error = refusal(site.http.get(f"/v1/models/{name}"), 404)
    assert (error["code"], error["message"]) == ("model_not_found", "The model does not exist.")
    assert site.http.head(f"/v1/models/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/v1/models?limit=5"])
def test_the_list_has_every_name(site: ClientSite, path: str) -> None:
    assert [card["id"] for card in site.http.get(path).json()["data"]] == list(MODELS)
    head = site.http.head(path)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_names_the_right_ones(site: ClientSite, path: str, method: str) -> None:
    answer = site.http.request(method, path)
    refusal(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("name", MODELS)
def test_every_name_of_the_list_answers_a_chat(site: ClientSite, name: str) -> None:
    assert site.chat(model=name).status_code == 200

"""The heads of data URLs."""

from __future__ import annotations

import pytest

from refusal_server.errors import ApiError
from refusal_server.media.data_url import is_data_url, join, split


@pytest.mark.parametrize(
    ("url", "media_type"),
    [
        ("data:image/png;charset=utf-8;base64,QUJD", "image/png"),
        ("data:image/png;name=a.png;base64,QUJD", "image/png"),
        ('data:image/png;name="a,b;c.png";base64,QUJD', "image/png"),
        ("data:audio/webm;codecs=opus;base64,QUJD", "audio/webm"),
        ("data:;base64,QUJD", ""),
        ("data:;charset=utf-8;base64,QUJD", ""),
        ("DATA:image/png;base64,QUJD", "image/png"),
        ("Data:IMAGE/PNG;BASE64,QUJD", "image/png"),
        ("data:image/png; base64,QUJD", "image/png"),
        ("data: image/png;base64 ,QUJD", "image/png"),
        ("\n data:image/png;base64,QUJD", "image/png"),
        ("data:not a type;base64,QUJD", ""),
        ("data:video/webm;codecs=vp8,opus;base64,QUJD", "video/webm"),
        ('data:video/webm;codecs="vp8, opus";base64,QUJD', "video/webm"),
        ("data:video/mp4;codecs=avc1.42E01E,mp4a.40.2;base64,QUJD", "video/mp4"),
        ("data:video/x-matroska;codecs=avc1,opus;a=b;base64,QUJD", "video/x-matroska"),
        ("data:image/png;name=a,b.png;base64,QUJD", "image/png"),
        ("data:image/png;base64;charset=utf-8,QUJD", "image/png"),
        ("data:image/png;base64;base64,QUJD", "image/png"),
    ],
)
def test_heads_that_clients_write(url: str, media_type: str) -> None:
    assert is_data_url(url)
    assert split(url, "part")[:2] == (media_type, "QUJD")


@pytest.mark.parametrize("media_type", ["image/png", "video/mp4", "audio/x-wav", "", "a/b+c"])
def test_only_the_form_that_the_engine_reads_is_plain(media_type: str) -> None:
    url = join(media_type, "QUJD")
    assert split(url, "part") == (media_type, "QUJD", True)
    for other in (f" {url}", url.replace("data", "Data"), url.replace(";base64", ";a=b;base64")):
        assert not split(other, "part").plain


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,abc",
        "data:image/png,abc;base64,QUJD",
        "data:image/png;base64",
        "data:image/png;base64:QUJD",
        "data:image/png;base6,QUJD",
        "data:base64,QUJD",
        "data:,;base64,QUJD",
        "data:" + "x" * 2000 + ";base64,QUJD",
        "data:" + ';""' * 600,
        "data:" + ";" * 1000,
    ],
)
def test_heads_that_are_none(url: str) -> None:
    with pytest.raises(ApiError) as caught:
        split(url, "part")
    assert (caught.value.status, caught.value.code) == (400, "invalid_media")


@pytest.mark.parametrize("url", ["http://a/b", "dat:x", "", " " * 2000 + "data:;base64,QUJD"])
def test_other_urls(url: str) -> None:
    assert not is_data_url(url)

"""What every error of the server must look like."""

from __future__ import annotations

import re
from typing import Any

import httpx2


def check_error(response: httpx2.Response, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    if code is not None:
        assert error["code"] == code, error
    assert len(response.content) < 1200
    assert not re.search(r"0x[0-9a-f]{6,}|/(home|root|usr|tmp|work)/|Traceback", response.text)
    return dict(error)

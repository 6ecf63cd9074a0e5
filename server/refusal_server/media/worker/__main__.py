"""``python -m refusal_server.media.worker LIMITS SERVER``: started by the server, never by hand."""

from __future__ import annotations

import sys

from refusal_server.media.worker.forking import serve
from refusal_server.media.worker.protocol import Limits
from refusal_server.media.worker.sealing import settle


def main() -> None:
    """Give up what is not needed, then read media until the server closes the pipe."""
    limits, server = Limits.from_json(sys.argv[1]), int(sys.argv[2])
    settle(server)
    serve(0, 1, limits)


if __name__ == "__main__":
    main()

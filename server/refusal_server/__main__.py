"""``python -m refusal_server`` is the ``refusal-server`` command."""

import sys

from refusal_server.run.cli import main

if __name__ == "__main__":
    sys.exit(main())

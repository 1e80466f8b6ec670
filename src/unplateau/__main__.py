"""`python -m unplateau`: the command line."""

from __future__ import annotations

from unplateau.cli import main

# The processes that train side by side load this module under another name.
if __name__ == "__main__":
    raise SystemExit(main())

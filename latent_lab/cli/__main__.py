"""`python -m latent_lab.cli`."""

from __future__ import annotations

import sys

from latent_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())

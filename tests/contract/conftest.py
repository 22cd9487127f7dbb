from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed images of all contract tests."""
    return tmp_path_factory.mktemp("cache")

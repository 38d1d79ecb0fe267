from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]


@pytest.mark.skipif(not (HERE.parent / "LICENSE-MIT").is_file(), reason="not in the source tree")
def test_the_licences_are_those_of_the_project() -> None:
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert (HERE / name).read_bytes() == (HERE.parent / name).read_bytes()

"""Two methods at a clean and a noisy rate, two seeds each."""

from __future__ import annotations

import pytest
from synthetic_results import result_of, spec_of


@pytest.fixture
def results():
    mrs = {("infonce", 0): 22.0, ("infonce", 0.4): 15.0, ("srem", 0): 21.0, ("srem", 0.4): 19.0}
    return [result_of(spec_of(m, r, s), mr + s) for (m, r), mr in mrs.items() for s in (0, 1)]

from __future__ import annotations

import pytest

from trainables.data.store_writer import describe_bytes


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (17_077_120, "17.1 MB"),
        (999_999_999, "1,000.0 MB"),
        (10**9, "1.0 GB"),
        (2_345 * 10**9, "2,345.0 GB"),
    ],
)
def test_small_sizes_are_not_rounded_to_nothing(n_bytes: int, said: str) -> None:
    assert describe_bytes(n_bytes) == said

from __future__ import annotations

import pytest

from search.run_folder.origin import Origin


@pytest.mark.parametrize(
    ("origin", "tags"),
    [
        (Origin("box"), {"protocol": "box", "demo": "no"}),
        (
            Origin("box", "1f", "bcss", "0a", "large", 0, "demo data", ("a", "b")),
            {
                "protocol": "box",
                "protocol_id": "1f",
                "data": "bcss",
                "data_fingerprint": "0a",
                "model": "large",
                "seed": "0",
                "demo": "demo data",
                "caveats": "a; b",
            },
        ),
    ],
)
def test_tags_hold_what_is_known_and_always_whether_it_is_a_demo(origin: Origin, tags: dict[str, str]) -> None:
    assert origin.to_tags() == tags

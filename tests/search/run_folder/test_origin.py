from search.run_folder.origin import Origin


def test_tags_hold_what_is_known_and_always_whether_it_is_a_demo() -> None:
    assert Origin("box").to_tags() == {"protocol": "box", "demo": "no"}
    data = {"data": "bcss", "data_fingerprint": "0a", "model": "large", "seed": "0", "demo": "demo data"}
    whole = Origin("box", "1f", "bcss", "0a", "large", 0, "demo data", ("a", "b"))
    assert whole.to_tags() == {"protocol": "box", "protocol_id": "1f", **data, "caveats": "a; b"}

from trainables.data.images import Palette
from trainables.data.palettes import add_palette_hint, find_palette_clashes
from trainables.errors import Finding

RED, GREEN = (255, 0, 0), (0, 255, 0)
FAULT = Finding("a.png", "holds ids", "correct it")
CLASSES = {1: "tumor", 2: "stroma"}


def test_a_finding_about_ids_shows_the_mask_s_palette() -> None:
    assert add_palette_hint(FAULT, {}) == FAULT
    hinted = add_palette_hint(FAULT, {7: RED, 9: GREEN})
    assert (hinted.where, hinted.what) == (FAULT.where, FAULT.what)
    assert hinted.fix.startswith("correct it; ") and "(7 #ff0000, 9 #00ff00)" in hinted.fix
    assert "3 #ff0000, and 5 more)" in add_palette_hint(FAULT, dict.fromkeys(range(9), RED)).fix


def test_classes_of_two_colors_are_reported_once() -> None:
    masks: list[tuple[str, Palette]] = [
        ("a.png", {}), ("b.png", {1: RED, 2: GREEN}), ("c.png", {1: RED}), ("d.png", {1: GREEN}), ("e.png", {2: RED})
    ]  # fmt: skip
    (warning,) = find_palette_clashes(masks, CLASSES)
    assert warning.where == "d.png"
    assert warning.what == "its palette has for class 1 tumor the color #00ff00, that of b.png #ff0000"
    assert find_palette_clashes([("a.png", {0: RED, 1: RED}), ("b.png", {0: GREEN, 1: RED})], CLASSES) == []

import numpy as np
import pytest

from trainables.demo.layout import LYMPHOCYTE, NECROSIS, OTHER, STROMA, TUMOR, VESSEL
from trainables.demo.texture import draw_stain, paint


def paint_uniform(class_id: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = paint(rng, np.full((160, 160), class_id, np.uint8), draw_stain(np.random.default_rng(1)))
    return image.astype(np.float32)


@pytest.mark.parametrize("class_id", [TUMOR, STROMA, LYMPHOCYTE, NECROSIS, VESSEL, OTHER])
def test_a_region_of_one_class_can_be_painted(class_id: int) -> None:
    image = paint_uniform(class_id, 0)
    assert image.shape == (160, 160, 3) and image.std() > 4


def test_classes_differ_as_under_the_microscope() -> None:
    tumor, stroma, lymphocyte, necrosis, fat = (
        paint_uniform(c, 2) for c in (TUMOR, STROMA, LYMPHOCYTE, NECROSIS, OTHER)
    )
    redness = {c: float((x[..., 0] - x[..., 2]).mean()) for c, x in (("tumor", tumor), ("stroma", stroma))}
    assert redness["stroma"] > redness["tumor"]  # eosin against hematoxylin
    assert fat.mean() > necrosis.mean() > tumor.mean()
    assert np.quantile(lymphocyte, 0.05) < np.quantile(stroma, 0.05)


@pytest.mark.parametrize("seed", range(6))
def test_a_stain_is_physical(seed: int) -> None:
    stain = draw_stain(np.random.default_rng(seed))
    np.testing.assert_allclose(np.linalg.norm(stain.vectors, axis=1), 1, atol=1e-5)
    assert stain.vectors.min() >= 0 and 225 <= stain.white.min() and stain.white.max() <= 255
    assert stain.vectors[0, 0] > stain.vectors[1, 0]  # hematoxylin is the one that absorbs red

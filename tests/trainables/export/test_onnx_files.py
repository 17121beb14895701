from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sam2.modeling.sam2_base import SAM2Base
from stock_masks import measure_distance

from trainables.context import TrialContext
from trainables.evaluation.candidates import score_candidate
from trainables.export.library_scores import score_by_library
from trainables.export.onnx_files import DECODER_FILE, ENCODER_FILE, load_onnx, write_onnx
from trainables.protocol.spec import PROTOCOLS

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")


# One test, as PyTorch's exporter takes 10 s a file.
def test_onnxruntime_gives_the_masks_and_the_dice_of_stock_sam2(
    nano: SAM2Base, context: TrialContext, tissue_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    write_onnx(nano, folder)
    assert {path.name for path in folder.iterdir()} == {ENCODER_FILE, DECODER_FILE}
    for path in folder.iterdir():
        assert b"site-packages" not in path.read_bytes() and b"onnx_files.py" not in path.read_bytes()
    exported = load_onnx(folder)
    off, changed = measure_distance(nano, exported)
    assert off < 1e-4 and changed < 1e-4
    context = replace(context, protocol=PROTOCOLS["box-neg"])
    found = score_by_library(context, exported, tissue_root).dice
    assert found == pytest.approx(score_candidate(context, None, context.val).dice, abs=1e-3)

    # What labelling tools ask for: several prompts at once, and the mask of an earlier answer as a prompt.
    decoder = onnxruntime.InferenceSession(folder / DECODER_FILE, providers=["CPUExecutionProvider"])
    features = exported.encode(np.zeros((40, 50, 3), np.uint8))
    inputs = {
        **features._asdict(),
        "point_coords": np.full((2, 3, 2), 90, np.float32),
        "point_labels": np.array([[1, 0, -1], [2, 3, 1]], np.float32),
        "mask_input": np.full((2, 1, 64, 64), 4, np.float32),
    }
    answers = [decoder.run(None, inputs | {"has_mask_input": np.array([each], np.float32)}) for each in (0, 1)]
    assert [each.shape for each in answers[0]] == [(2, 3, 64, 64), (2, 3)]
    assert np.abs(answers[0][0] - answers[1][0]).max() > 0.1

"""The scales of an update: 0 is zero-shot, 1 the fine-tune as trained (WiSE-FT, arXiv 2109.01903)."""

from trainables.errors import InputError

# Those at which the winner is scored, and that a search may score its epochs at.
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
# "A little beyond" ends at twice the update; far greater scales overflow.
MAX_SCALE = 2.0


def check_scale(scale: float) -> None:
    """Raises InputError if a scale is negative, greater than 2, or no number."""
    if not 0 <= scale <= MAX_SCALE:
        what = f"`0 <= scale <= {MAX_SCALE:g}` must hold, but got {scale}"
        raise InputError.at(f"scale {scale}", what, "0 is zero-shot, 1 the fine-tune as trained")

"""Scene cuts on the dark signal."""

from __future__ import annotations

from torch import Tensor


def is_cut(scene: Tensor, previous: Tensor | None) -> Tensor | bool:
    """Whether two coarse luma pictures belong to different scenes.

    The threshold follows the light there is: a change of a quarter of the mean luma. A cut between two frames of
    mean 6/255 counts, the noise of a bright one does not.

    Args:
        scene: Coarse luma, ``(h, w)``, [0, 1].
        previous: That of the frame before, or None (no cut: there is nothing to forget).

    Returns:
        A 0-dim bool tensor, or a plain bool where no comparison was possible; a change of size is a cut.
    """
    if previous is None:
        return False
    if previous.shape != scene.shape:
        return True
    return (scene - previous).abs().mean() > 0.25 * (0.5 * (scene.mean() + previous.mean()) + 0.02)

"""What models made for single pictures do with the memory of a stream."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lldiffusion_states import golden_state
from torch import Tensor

from streamlight.models import load
from streamlight.models.glare import Glare
from streamlight.models.lldiffusion import ARCHITECTURE, LLDiffusion
from streamlight.models.lldiffusion.diffusion import alpha_bars, ddim, diffuse
from streamlight.models.lldiffusion.warm import near, warm_start
from streamlight.models.protocol import GenerativeModel, Recall
from streamlight.models.weights import Weights, strip_prefixes

GLARE = Path(__file__).resolve().parent.parent / "golden" / "glare" / "net_g.safetensors"


def dark(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(seed)) * 0.2


def recalling(left: dict[str, Tensor], *, confidence: float = 1.0, hold: float = 1.0) -> Recall:
    return Recall(past=left, confidence=torch.full((1, 1, 8, 10), confidence), hold=hold)


def bright(model: GenerativeModel, low: Tensor, recall: Recall | None = None) -> Tensor:
    condition = model.condition(low, recall=recall)
    mean = model.prior(condition).mean
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
    return model.decode(mean + model.temperature * noise, condition)


def lldiffusion(**settings: int) -> LLDiffusion:
    weights = Weights("lol_tiny", strip_prefixes(golden_state("lol_tiny"), "lol_tiny"))
    model = ARCHITECTURE.build(weights, **{"steps": 3, **settings})
    assert isinstance(model, LLDiffusion)
    return model


@pytest.fixture(scope="module")
def model() -> Glare:
    model = load(GLARE)
    assert isinstance(model, Glare)
    return model


class TestGlare:
    def test_a_first_frame_is_the_picture_by_itself_and_leaves_its_codes(self, model: Glare) -> None:
        recall = Recall()
        assert bright(model, dark(), recall).equal(bright(model, dark()))
        assert recall.left["codes"].shape == (1, 16, 20)
        assert recall.left["codes"].dtype == torch.int64

    def test_held_codes_change_less(self, model: Glare) -> None:
        first = Recall()
        bright(model, dark(), first)
        changed = {}
        for name, confidence, hold in (("free", 1.0, 1e-6), ("half", 1.0, 0.5), ("held", 1.0, 1.0), ("lost", 0.0, 1.0)):
            recall = recalling(first.left, confidence=confidence, hold=hold)
            bright(model, (dark() + 0.02 * dark(1)).clamp(0, 1), recall)
            changed[name] = int((recall.left["codes"] != first.left["codes"]).sum())
        assert changed["free"] == changed["lost"] > changed["half"]
        assert changed["held"] == 0

    def test_codes_of_another_size_are_forgotten(self, model: Glare) -> None:
        recall = recalling({"codes": torch.zeros(1, 3, 4, dtype=torch.int64)})
        assert bright(model, dark(), recall).equal(bright(model, dark()))


class TestLLDiffusion:
    def test_a_first_frame_is_the_picture_by_itself_and_is_left(self) -> None:
        model, recall, low = lldiffusion(), Recall(), dark()
        picture = bright(model, low, recall)
        assert picture.equal(bright(model, low))
        assert recall.left["bright"].equal(picture)
        assert recall.left["low"].equal(low)

    def test_a_second_frame_takes_the_warm_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, first = lldiffusion(steps=5, warm_steps=2), Recall()
        times: list[int] = []
        monkeypatch.setattr(model.diff_unet, "forward", lambda x, features, t: times.append(int(t)) or x[:, :3] * 0)
        bright(model, dark(), first)
        assert len(times) == 5
        bright(model, dark(), recalling(first.left))
        assert times[5:] == [300, 0]

    def test_without_warm_steps_every_frame_starts_anew(self) -> None:
        model, first = lldiffusion(warm_steps=0), Recall()
        bright(model, dark(), first)
        low = dark(1)
        assert bright(model, low, recalling(first.left)).equal(bright(model, low))

    def test_what_is_trusted_stays(self) -> None:
        model, low = lldiffusion(), dark()
        old = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(9))
        left = {"bright": old, "low": low}
        torch.testing.assert_close(bright(model, low, recalling(left)), old, atol=1e-4, rtol=0)
        assert (bright(model, low, recalling(left, confidence=0.0)) - old).abs().mean() > 0.05

    def test_a_lamp_has_no_past(self) -> None:
        low = torch.full((1, 3, 64, 80), 0.05)
        lit = low.clone()
        lit[..., :40] = 0.6
        warm = warm_start(recalling({"bright": torch.full_like(low, 0.5), "low": low}, hold=0.8), lit)
        assert warm is not None
        assert float(warm.weight[..., :30].max()) == 0.0
        assert float(warm.weight[..., 50:].min()) == pytest.approx(0.8)
        assert float((warm.start[..., 50:] - 0.5).abs().max()) < 1e-6
        assert float(warm.start[..., :30].min()) > 0.9  # the gain of the rest, on the light of the lamp

    def test_drawn_predictions_are_those_of_the_blended_picture(self) -> None:
        generator = torch.Generator().manual_seed(0)
        clean, noise, other = (torch.randn(1, 3, 4, 4, generator=generator) for _ in range(3))
        weight = torch.zeros(4, 4)
        weight[:2] = 1.0
        state = diffuse(clean, 300, noise)
        predict = near(lambda x, t: noise, other, weight)
        bar = alpha_bars()[301]
        seen = (state - (1 - bar) ** 0.5 * predict(state, 300)) / bar**0.5
        torch.testing.assert_close(seen[..., :2, :], other[..., :2, :], atol=1e-4, rtol=0)
        torch.testing.assert_close(seen[..., 2:, :], clean[..., 2:, :], atol=1e-4, rtol=0)
        (end,) = ddim(predict, state, times=[300])
        torch.testing.assert_close(end, seen, atol=1e-4, rtol=0)

    def test_a_still_scene_does_not_drift(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A network that darkens everything a little must not do so again and again."""
        model, low, recall = lldiffusion(), dark(), Recall()
        old = torch.full_like(low, 0.5)
        left = {"bright": old, "low": low}

        def darker(x: Tensor, features: list[Tensor], t: Tensor) -> Tensor:
            bar = alpha_bars()[int(t) + 1]
            return (x[:, :3] - bar**0.5 * -0.2) / (1 - bar) ** 0.5  # the clean picture is 0.4 everywhere

        monkeypatch.setattr(model.diff_unet, "forward", darker)
        for _ in range(10):
            recall = recalling(left, hold=0.5)
            picture = bright(model, low, recall)
            left = recall.left
        assert abs(float(picture.mean()) - 0.5) < 0.01

    def test_a_fade_is_followed(self) -> None:
        low = torch.full((1, 3, 64, 80), 0.05)
        warm = warm_start(recalling({"bright": torch.full_like(low, 0.4), "low": low}), low * 1.1)
        assert warm is not None
        assert float(warm.old.mean()) == pytest.approx(0.4 * (0.055 + 0.02) / (0.05 + 0.02), abs=1e-4)
        assert float(warm.anchored(torch.full_like(low, 0.3)).mean()) > 0.39

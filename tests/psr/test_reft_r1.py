"""ReFT-r1 against its update written out by hand, and its direction's promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from psr.errors import PsrError
from psr.fitting.loop import Diverged
from psr.fitting.methods import parse_method
from psr.fitting.methods.reft_r1 import fit_reft_r1
from psr.fitting.presets import REFT_R1
from tests.psr import hand
from tests.psr.toy import D, examples, toy

METHOD = parse_method("s-reft-r1-r")
SEED = 4  # its first direction is reached by some token at either layer


def loss_by_hand(model, data, v, layer: int, top: int, weight: float):
    losses, idle = [], []
    for t in (one.tokens for one in data):
        found = []

        def edit(h, found=found):
            a = torch.relu(h @ v)
            found.append(a)
            return a.sort(descending=True).values[:top].mean() * v.expand_as(h)

        prompt, answer = t.plain_ids[: -t.response], t.plain_ids[-t.response :]
        losses.append(-hand.answer_likelihood(model, prompt, answer, {layer: edit}, t.plain_start) / t.response)
        a = found[0].sort(descending=True).values
        idle.append(a[top:].sum() / len(a))
    return torch.stack(losses).mean() + weight * torch.stack(idle).mean()


@pytest.mark.parametrize(("layer", "top", "coefficient"), [(0, 2, 0.5), (1, 8, 0.005), (1, 1, 3.0)])
def test_a_fit_follows_the_steps_written_out_by_hand(layer, top, coefficient):
    lm, data, epochs = toy(), examples(), 6
    settings = replace(REFT_R1, epochs=epochs, batch_size=8, lr=0.05, seed=SEED)
    fitted = fit_reft_r1(
        lm, data, METHOD, (layer,), settings, module_id="m", top=top, coefficient=coefficient, clip=0.3
    )
    v = torch.randn(D, generator=torch.Generator().manual_seed(settings.seed))
    v = v / v.norm()
    first = second = torch.zeros(D)
    losses = []
    for step in range(epochs):
        live = v.clone().requires_grad_()
        loss = loss_by_hand(lm.model, data, live, layer, top, coefficient * step / epochs)
        (g,) = torch.autograd.grad(loss, [live])
        losses.append(loss.item())
        g = g * min(1.0, 0.3 / float(g.norm()))
        g = g - (g @ v) * v
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        size = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        v = v - 0.05 * (1 - step / epochs) * first / (1 - 0.9 ** (step + 1)) / size
        v = v / v.norm()
    assert [point.loss for point in fitted.curve] == pytest.approx(losses, rel=1e-4)
    latents = [
        torch.relu(hand.run(lm.model, t.plain_ids)[0][layer][t.plain_start :] @ v).max()
        for t in (one.tokens for one in data)
    ]
    z = fitted.module.tensors["z"][0]
    assert fitted.module.origin["max_act"] == pytest.approx(float(max(latents)), rel=1e-3)
    torch.testing.assert_close(z, max(latents) * v, rtol=1e-3, atol=1e-4)


def test_the_settings_are_those_of_its_authors():
    assert (REFT_R1.lr, REFT_R1.epochs, REFT_R1.batch_size) == (0.01, 3, 6)


@pytest.mark.parametrize(
    ("option", "value"), [("top", 0), ("coefficient", -1.0), ("coefficient", float("nan")), ("clip", 0.0)]
)
def test_options_that_make_no_sense_are_refused_by_name(option, value):
    with pytest.raises(PsrError, match=rf"makes no sense \({option}\).*got {value!r}"):
        fit_reft_r1(toy(), examples(), METHOD, (0,), module_id="m", **{option: value})


def test_divergence_keeps_the_last_good_direction():
    settings = replace(REFT_R1, epochs=4, batch_size=1)
    model = toy()
    model.model.U.mul_(1e38)
    with pytest.raises(Diverged, match="fitting diverged") as caught:
        fit_reft_r1(model, examples(), METHOD, (0,), settings, module_id="m")
    assert bool(torch.isfinite(caught.value.last_good.tensors["z"]).all())
    assert caught.value.last_good.origin["stopped"] == {"epoch": 0}


def test_a_direction_that_no_token_reaches_is_reported_as_dead():
    fitted = fit_reft_r1(toy(), examples(), METHOD, (1,), replace(REFT_R1, seed=123), module_id="m")
    assert fitted.dead
    assert fitted.curve[-1].dead == 1
    assert (fitted.module.origin["dead"], fitted.module.origin["max_act"]) == (True, 0.0)
    assert not bool(fitted.module.tensors["z"].any())

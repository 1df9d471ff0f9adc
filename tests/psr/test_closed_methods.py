"""Methods without training against numpy and loops over the same recordings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psr.errors import PsrError
from psr.fitting.learning import learn
from psr.fitting.methods import parse_method
from psr.fitting.methods.actadd import single_pair
from psr.fitting.methods.pairs import prompt_ends
from psr.fitting.methods.pca import principal_direction
from psr.fitting.methods.stolfo import projection_to_target
from psr.lm.recording import Targets
from psr.steering.hooks import Steer, steered
from psr.types import Dropped
from tests.psr import hand
from tests.psr.test_objectives_by_hand import preferred
from tests.psr.toy import D, examples, toy


def recording(seed: int, n: int = 7, model: str = "m", layers=(0, 1, 2)) -> Targets:
    values = torch.randn((len(layers), n, 4), generator=torch.Generator().manual_seed(seed)) + seed
    return Targets(values, tuple(range(n + 1)), tuple(layers), model, "R")


def ends(data, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Last prompt tokens by hand, [pair, d]: with the instruction and without."""
    model, sides = toy().model, ([], [])
    for t in (one.tokens for one in data):
        for side, ids in zip(sides, (t.instructed_ids, t.plain_ids), strict=True):
            side.append(hand.run(model, ids[: -t.response])[0][layer][-1].numpy())
    return np.stack(sides[0]).astype(np.float64), np.stack(sides[1]).astype(np.float64)


@pytest.mark.parametrize("span", ["R", "QR"])
def test_prompt_ends_are_the_last_tokens_of_the_prompts(span):
    recordings = prompt_ends(toy(), examples(span), (1,))
    for got, wanted in zip(recordings, ends(examples(span), 1), strict=True):
        np.testing.assert_allclose(got.values[0].numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_caa_is_the_mean_and_actadd_the_first_of_the_pairs():
    with_it, without = ends(examples(), 1)
    caa, actadd = (
        learn(toy(), examples(), parse_method(slug), (1,), module_id="m").module.tensors["z"][0].numpy()
        for slug in ("s-const-caa-r", "s-const-actadd-r")
    )
    np.testing.assert_allclose(caa, (with_it - without).mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(actadd, with_it[0] - without[0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(caa, actadd)


@pytest.mark.parametrize("same", [True, False])
def test_means_over_answers_are_over_the_same_or_the_own_ones(same):
    model, data = toy().model, preferred("QR")
    A, B = [], []
    for one in data:
        t = one.tokens
        answer = t.plain_ids[-t.response :] if same else one.rejected
        A += list(hand.run(model, t.instructed_ids)[0][1][-t.response :])
        B += list(hand.run(model, (*t.plain_ids[: -t.response], *answer))[0][1][-len(answer) :])
    slug = "s-const-dim-same-qr" if same else "s-const-dim-qr"
    z = learn(toy(), data, parse_method(slug), (1,), module_id="m").module.tensors["z"][0]
    torch.testing.assert_close(z, torch.stack(A).mean(0) - torch.stack(B).mean(0), rtol=1e-4, atol=1e-5)


def test_pca_is_the_leading_eigenvector_of_the_covariance_signed_and_scaled_by_the_mean():
    A, B = recording(3), recording(1)
    for centred in (True, False):
        module = principal_direction(A, B, (2, 0), "R", module_id="m", centred=centred)
        unit = principal_direction(A, B, (2, 0), "R", module_id="m", centred=centred, scaled=False)
        for i, row in enumerate((0, 2)):
            difference = (A.values[row] - B.values[row]).numpy().astype(np.float64)
            matrix = np.cov(difference.T) if centred else difference.T @ difference
            v = np.linalg.eigh(matrix)[1][:, -1]
            v = v * np.sign(v @ difference.mean(0))
            np.testing.assert_allclose(unit.tensors["z"][i].numpy(), v, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(
                module.tensors["z"][i].numpy(), v * (v @ difference.mean(0)), rtol=1e-4, atol=1e-5
            )


def test_stolfo_moves_every_position_of_the_span_to_the_instructed_mean():
    lm = toy()
    with_it, without = ends(examples(), 1)
    module = learn(lm, examples(), parse_method("s-proj-stolfo-r"), (1,), module_id="m").module
    direction = (with_it - without).mean(0)
    direction /= np.linalg.norm(direction)
    target = (with_it @ direction).mean()
    np.testing.assert_allclose(module.tensors["z"][0].numpy(), direction, rtol=1e-4, atol=1e-5)
    assert float(module.tensors["t"][0]) == pytest.approx(target, rel=1e-4)

    ids = (1, 2, 3, 4, 5)
    free = hand.run(lm.model, ids)[0][1]
    z = torch.tensor(direction, dtype=torch.float32)
    half = free.clone()
    for i in range(2, 5):
        half[i] = free[i] + 0.5 * (float(target) - free[i] @ z) * z
    with steered(lm.model, [Steer(module, 0.5, 2)]):
        logits = lm.model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, 5)).logits[0]
    torch.testing.assert_close(logits, 3 * half @ lm.model.U, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [single_pair, principal_direction, projection_to_target])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plain": recording(1, model="other")}, "different models"),
        ({"plain": recording(1, n=6)}, "not pairs"),
        ({"layers": (5,)}, "lacks layers"),
        ({"layers": ()}, "lacks layers"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(make, change, message):
    arguments = {"instructed": recording(3), "plain": recording(1), "layers": (2,), **change}
    with pytest.raises(PsrError, match=message):
        make(**arguments, span="R", module_id="m")


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(PsrError, match=r"pair.*0 to 6, got 9"):
        single_pair(recording(3), recording(1), (0,), "R", module_id="m", pair=9)
    with pytest.raises(PsrError, match="changes nothing"):
        projection_to_target(recording(1), recording(1), (0,), "R", module_id="m")
    with pytest.raises(PsrError, match="plain answers too"):
        learn(toy(), examples(), parse_method("s-const-dim-r"), (0,), module_id="m")
    assert D == 6


def test_too_few_triplets_say_how_many_were_dropped_and_why():
    dropped = [Dropped("a", "trait below 0.5"), Dropped("b", "coherence below 0.5"), Dropped("c", "trait below 0.5")]
    with pytest.raises(PsrError, match=r"0 kept; 3 dropped: 2 trait below 0.5, 1 coherence below 0.5"):
        learn(toy(), [], parse_method("a-psr-mse-r"), (0, 1), module_id="m", dropped=dropped)
    with pytest.raises(PsrError, match=r"at least 2, got 1 kept"):
        learn(toy(), examples()[:1], parse_method("s-const-pca-r"), (0,), module_id="m")

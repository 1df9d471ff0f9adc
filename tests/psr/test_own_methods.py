"""Methods and objectives that psr does not know: found by a dotted path, learnt, steered by; refused where they keep no contract."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from psr.errors import PsrError
from psr.fitting import loop as fitting
from psr.fitting.joint import fit_many
from psr.fitting.learning import learn
from psr.fitting.loop import pose
from psr.fitting.methods import METHODS, parse_method
from psr.fitting.methods.gradient import by_gradients
from psr.fitting.methods.named import method_named, methods_named, plug_of
from psr.fitting.presets import FAST_LL, FitSettings
from psr.lm.recording import recorded
from psr.steering.hooks import Steer, steered
from psr.steering.module import load_module, save_module
from psr.types import Method
from tests.psr import hand, own_methods
from tests.psr.toy import LAYERS, D, examples, toy

HERE = "tests.psr.own_methods"


def test_a_closed_form_of_ones_own_is_learnt_and_steers(tmp_path):
    lm, plug = toy(), method_named(f"{HERE}:TWICE")
    assert (plug.method.slug, plug.method.name, plug.trained) == ("s-const-twice-r", "S-Const Twice·R", False)
    module = learn(lm, examples(), plug, (1,), module_id="m", origin={"attribute": "a"}).module
    differences = []
    for one in examples():
        x, y = one.prompt_ids, one.tokens.instructed_ids[: -one.tokens.response]
        differences.append(hand.run(lm.model, y)[0][1][-1] - hand.run(lm.model, x)[0][1][-1])
    z = 2 * torch.stack(differences).mean(0)
    torch.testing.assert_close(module.tensors["z"][0], z)
    assert module.origin == {"attribute": "a", "method": "s-const-twice-r", "pairs": 3}
    again = load_module(save_module(module, tmp_path / "m"))
    ids = torch.tensor([[1, 2, 3, 4]])
    with steered(lm.model, [Steer(again, 0.5, 2)]), recorded(lm.model, (1,)) as A:
        lm.base(input_ids=ids, attention_mask=torch.ones_like(ids))
    by_hand = hand.run(lm.model, (1, 2, 3, 4), {1: lambda h: 0.5 * z.expand_as(h)}, 2)[0][1]
    torch.testing.assert_close(A[1][0], by_hand)


def test_a_method_says_whether_it_fits_likelihoods():
    fits = {method.objective for method in METHODS if plug_of(method).learning.fits_likelihoods}
    assert fits == {"LL", "KL", "RePS", "ReFT-r1"}
    assert not method_named(f"{HERE}:TWICE").learning.fits_likelihoods
    own = replace(own_methods.ABSOLUTE, fits_likelihoods=True)
    assert by_gradients(own_methods.ABSOLUTE_PSR.method, own).learning.fits_likelihoods


def l1_by_hand(model, data, form, live, layers, settings, scale):
    """The mean over examples of the distances and what the gates lack, one sequence at a time."""
    losses = []
    for one in data:
        t, last = one.tokens, None
        edits = {
            layer: hand.added(form, {name: value[i] for name, value in live.items()}, one.trait)
            for i, layer in enumerate(layers)
        }
        A, B = hand.run(model, t.plain_ids, edits, t.plain_start)[0], hand.run(model, t.instructed_ids)[0]
        value = sum(
            (A[j][t.plain_start :] - B[j][t.instructed_start :]).abs().mean() for j in range(min(layers), LAYERS)
        )
        value = value / scale
        if form == "PSR":
            for i, layer in enumerate(layers):
                below = {k: edit for k, edit in edits.items() if k < layer}
                last = hand.run(model, t.plain_ids, below, t.plain_start)[0][layer][t.plain_start :]
                params = {name: v[i] for name, v in live.items()}
                value = value + settings.regulariser * hand.missing_gates(form, params, last)
        losses.append(value)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("name", ["ABSOLUTE_PSR", "ABSOLUTE_CONST"])
def test_an_objective_of_ones_own_follows_the_trajectory_computed_by_hand(name):
    lm, plug = toy(), method_named(f"{HERE}:{name}")
    method, data = plug.method, examples(plug.method.span)
    layers = (0, 1) if method.scope == "A" else (0,)
    settings = FitSettings(epochs=5, batch_size=8, lr=0.03, weight_decay=0.1, regulariser=0.7)
    unsteered = {"z": torch.zeros(len(layers), D)}
    scale = float(l1_by_hand(lm.model, data, "Const", unsteered, layers, settings, 1.0))
    problem = pose(lm, data, method, layers, settings, None, objective=own_methods.ABSOLUTE)
    params = fitting.initial_params(problem)
    fitted = learn(lm, data, plug, layers, settings, module_id="m")
    losses = hand.adamw(
        lambda live, _: l1_by_hand(lm.model, data, method.form, live, layers, settings, scale), params, 5, 0.03, 0.1
    )
    assert [point.loss for point in fitted.curve] == pytest.approx(losses, rel=2e-4)
    for tensor, value in params.items():
        torch.testing.assert_close(fitted.module.tensors[tensor], value, rtol=2e-3, atol=3e-4)
    assert plug.trained
    assert fitted.module.origin["method"] == method.slug


def test_many_are_learnt_in_one_pass_each_as_if_alone():
    lm, plug = toy(), method_named(f"{HERE}:ABSOLUTE_PSR")
    settings = FitSettings(epochs=3, batch_size=2, lr=0.03)
    own = {"a": examples()[:2], "b": examples()[1:]}
    many = plug.learning.learn_many(lm, own, plug.method, (0, 1), settings, seeds={"a": 1, "b": 2})
    for seed, (name, data) in enumerate(own.items(), 1):
        alone = learn(lm, data, plug, (0, 1), replace(settings, seed=seed), module_id=name).module
        for tensor, value in alone.tensors.items():
            torch.testing.assert_close(many[name].module.tensors[tensor], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(PsrError, match="not fitted by gradients"):  # only its plug knows the objective
        fit_many(lm, own, plug.method, (0, 1), settings)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ELSEWHERE", "the module has no such method"),
        ("NO_METHOD", r"this is no method.*without method \(a psr.Method"),
        ("NO_ROW", "this is no method.*expected a psr.Method.*got str"),
        ("NO_LEARNING", r"no way of learning.*without learn \(learn\(request\).*learn_many.*presets.*settings"),
        ("NO_WAY", "has no such way of learning a method"),
        ("NO_FUNCTION", "NO_FUNCTION, learn.*expected a function, got 'twice'"),
        ("NO_SCOPE", "NO_SCOPE, scope.*one of S, A, got 'L'"),
        ("NO_SPAN", "NO_SPAN, span.*one of R, QR, got 'RQ'"),
        ("NO_FORM", "unknown form of steering module.*Const, PSR.*'Cubic'"),
        ("NO_NAME", "letters, digits and single hyphens.*s-const-twice/2-r"),
        ("NO_READS", "NO_READS, reads.*one of instructed, plain, got 'prompted'"),
        ("NO_PRESETS", "expected presets paper and fast, as trained is True, got none"),
        ("HALF_PRESETS", "expected presets paper and fast, as trained is True, got fast"),
        ("PRESETS", "expected presets none, as trained is False, got fast, paper"),
        ("OURS", "a method of psr has this name.*OURS.*s-const-dim-r"),
        ("OURS_RANKED", "a method of psr has this name.*s-psr4-mse-r"),
    ],
)
def test_a_plug_that_keeps_no_contract_is_refused_in_one_line(name, message):
    with pytest.raises(PsrError, match=message) as error:
        method_named(f"{HERE}:{name}")
    assert "\n" not in str(error.value)
    assert f"{HERE}" in str(error.value)


def test_two_methods_of_one_name_are_refused():
    plugs = methods_named([f"{HERE}:TWICE", "s-const-dim-r", f"{HERE}:BY_PATH"])
    assert [plug.method.slug for plug in plugs] == ["s-const-twice-r", "s-const-dim-r", "s-const-late-r"]
    for twice in ([f"{HERE}:TWICE", f"{HERE}:NOTHING"], ["s-const-dim-r", "S-Const DiM·R"]):
        with pytest.raises(PsrError, match="a method is named twice"):
            methods_named(twice)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("TWICE", r"too few triplets.*S-Const Twice·R.*at least 2, got 1 kept"),
        ("MISFIT", "tensors do not fit its form"),
        ("NOTHING", "a method learnt no module.*psr.Fitted.*got NoneType"),
        ("ANOTHER", "another module than it was asked for.*'id': 'm'.*'id': 'mine'"),
        ("BLIND", "ran nothing that was steered.*L1"),
    ],
)
def test_what_a_method_of_ones_own_may_do_wrong_at_work_is_said_in_one_line(name, message):
    data = examples()[:1] if name == "TWICE" else examples()
    with pytest.raises(PsrError, match=message) as error:
        learn(toy(), data, method_named(f"{HERE}:{name}"), (1,), module_id="m")
    assert "\n" not in str(error.value)


def test_a_method_that_is_none_of_psrs_is_not_guessed():
    for method in (Method("S", "PSR", "DiM", "R"), Method("A", "Const", "ReFT-r1", "R"), own_methods.S_CONST):
        with pytest.raises(PsrError, match=r"psr has no such method.*Give its plug"):
            learn(toy(), examples(), method, (0,), FAST_LL, module_id="m")


@pytest.mark.parametrize("text", [*(method.slug for method in METHODS), "a-psr4-kl-qr", f"{HERE}:BY_PATH"])
def test_a_plug_can_be_sent_to_another_process(text):
    plug = copy.deepcopy(method_named(text))  # by the protocol that processes send objects with
    assert plug == method_named(text)
    assert plug.learning.at_least == (2 if plug.method.objective == "PCA" else 1)


def test_finding_a_method_of_psrs_needs_no_torch():
    code = (
        "import sys; from psr.fitting.methods.named import method_named as named; "
        "print(named('a-psr-mse-qr').trained, named('lora4-ll').trained, named('s-const-dim-r').trained, "
        "'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False", "False"]


def test_one_line_registers_an_objective_with_every_form_and_rank():
    code = f"""
from psr.fitting.objectives import OBJECTIVES
OBJECTIVES["L1"] = "{HERE}:ABSOLUTE"
from psr.fitting.learning import learn
from psr.fitting.methods import METHODS, PATTERNS, parse_method
from tests.psr.toy import examples, toy
print(sum(method.objective == "L1" for method in METHODS), "l1" in PATTERNS)
made = [learn(toy(), examples(), parse_method(slug), (1,), module_id="m").module for slug in ("s-psr3-l1-r", "s-loreft2-l1-r")]
print(*[module.form for module in made], made[0].origin["method"])
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "True", "PSR3", "LoReFT2", "s-psr3-l1-r"]


def test_a_method_names_itself_from_its_row_alone():
    for plug in (*map(plug_of, METHODS), method_named(f"{HERE}:TWICE"), plug_of(parse_method("a-loreft4-kl-qr"))):
        row = {name: getattr(plug.method, name) for name in ("scope", "form", "objective", "span")}
        assert Method.of({**row, "method": "unread"}) == plug.method
    assert Method("S", "Const", "Mine-r4", "R").slug == "s-mine-r4-r"  # a rank at its end: a method named whole

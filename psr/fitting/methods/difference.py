"""Difference of means (DiM): constant steering without training.

    own    z[l] = mean(A[l | x' y']) − mean(A[l | x y])       each side on its own sampled answers (persona vectors)
    same   z[l] = mean(A[l | x' y']) − mean(A[l | x y'])      the mean of Δ_PS (Eq. 3)
    last   z[l] = mean(A[l | x'])    − mean(A[l | x])         at the last prompt token only (CAA)

`own` and `same` average over answer tokens, each token with equal weight; `last` over prompts. x plain, x' instructed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.loop import Fitted
from psr.fitting.methods.contract import Learning
from psr.fitting.methods.pairs import from_prompt_ends
from psr.fitting.request import FitRequest
from psr.lm.recording import Targets, record
from psr.steering.module import SteeringModule
from psr.types import INSTRUCTED, PLAIN, Span

Kind = Literal["own", "same", "last"]


def difference_of_means(
    instructed: Targets,
    plain: Targets,
    layers: Sequence[int],
    span: Span,
    *,
    module_id: str,
    kind: Kind = "own",
    responses: tuple[Sequence[int], Sequence[int]] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> SteeringModule:
    """A Const module at `layers` whose z is the difference of means; it will steer `span`.

    instructed, plain: recordings of x' y' and of x y (own), or x y' (same; last takes either). responses: answer tokens
    of each sequence, (instructed, plain); needed unless both were recorded on span R, where an answer is all tokens
    but the first. Raises PsrError when the two come from different models, lack a layer or hold nothing to average.
    """
    ordered = tuple(sorted(set(layers)))
    _check(instructed, plain, ordered, kind)
    counts = responses or (answer_lengths(instructed), answer_lengths(plain))
    if kind == "same" and list(counts[0]) != list(counts[1]):
        raise PsrError(
            "the two sides hold different answers",
            where="difference of means, same",
            expected="equal lengths",
            got=f"{sum(counts[0])} and {sum(counts[1])} tokens",
            do="Record the same y' on both sides.",
        )
    z = mean_activation(instructed, ordered, counts[0], kind) - mean_activation(plain, ordered, counts[1], kind)
    about = {**(origin or {}), "difference": kind, "examples": len(instructed)}
    return SteeringModule(
        id=module_id,
        form="Const",
        layers=ordered,
        span=span,
        model=instructed.model,
        tensors={"z": z.float().contiguous()},
        origin=about,
    )


def answer_lengths(targets: Targets) -> list[int]:
    """Answer tokens of each sequence of a recording on span R: all but the last prompt token, which comes first."""
    if targets.span != "R":
        raise PsrError(
            "the recording does not say where its answers begin",
            expected="span R, or responses=…",
            got=f"span {targets.span}",
            do="Give the number of answer tokens of each sequence.",
        )
    return [end - start - 1 for start, end in zip(targets.offsets, targets.offsets[1:], strict=False)]


def mean_activation(targets: Targets, layers: Sequence[int], responses: Sequence[int], kind: Kind) -> Tensor:
    """Mean over answer tokens (own, same) or last prompt tokens (last), in fp64. Returns [layer, d] on the CPU."""
    if len(responses) != len(targets):
        raise PsrError("answer lengths for other sequences", expected=f"{len(targets)} lengths", got=len(responses))
    spans = zip(targets.offsets, targets.offsets[1:], responses, strict=False)
    chosen: list[int] = []
    for i, (start, end, response) in enumerate(spans):
        if not start <= end - response - (kind == "last"):
            raise PsrError(
                "an answer is longer than its recorded span",
                where=f"sequence {i}",
                expected=f"at most {end - start} tokens",
                got=response,
            )
        chosen += [end - response - 1] if kind == "last" else range(end - response, end)
    if not chosen:
        raise PsrError(
            "nothing to average", where=f"difference of means, {kind}", expected="at least one token", got="none"
        )
    index = torch.tensor(chosen, device=targets.values.device)
    rows = [targets.layers.index(layer) for layer in layers]
    return torch.stack([targets.values[row].index_select(0, index).double().mean(dim=0) for row in rows]).cpu()


def _check(instructed: Targets, plain: Targets, layers: Sequence[int], kind: Kind) -> None:
    if kind not in get_args(Kind):
        raise PsrError("unknown difference of means", expected=f"one of {', '.join(get_args(Kind))}", got=repr(kind))
    if instructed.model != plain.model:
        raise PsrError(
            "the two recordings come from different models",
            expected=instructed.model,
            got=plain.model,
            do="Extract them again.",
        )
    for side, targets in (("instructed", instructed), ("plain", plain)):
        if not layers or not set(layers) <= set(targets.layers):
            raise PsrError(
                f"the {side} recording lacks layers",
                expected=tuple(layers) or "at least one layer",
                got=targets.layers,
                do="Extract them again.",
            )


def _own(request: FitRequest) -> Fitted:
    """Each side on its own answers, on span R. What is not given is run."""
    instructed = _instructed(request)
    plain = request.plain if request.plain is not None else _rejected(request)
    return _fitted(request, instructed, plain, kind="own")


def _same(request: FitRequest) -> Fitted:
    """The same y' on both sides, on span R."""
    lengths = [one.tokens.response for one in request.examples]
    plain = _recorded(request, [one.tokens.plain_ids for one in request.examples], lengths)
    return _fitted(request, _instructed(request), plain, kind="same")


def _instructed(request: FitRequest) -> Targets:
    lengths = [one.tokens.response for one in request.examples]
    if request.instructed is not None:
        return request.instructed.last([n + 1 for n in lengths], "R")
    return _recorded(request, [one.tokens.instructed_ids for one in request.examples], lengths)


def _rejected(request: FitRequest) -> Targets:
    answers = [one.rejected or () for one in request.examples]
    missing = [i for i, ids in enumerate(answers) if not ids]
    if missing:
        raise PsrError(
            "a difference of means over own answers needs plain answers too",
            where=f"example {missing[0]}",
            expected="plain=…, or rejected tokens in every example",
            got="none",
        )
    sequences = [(*one.prompt_ids, *ids) for one, ids in zip(request.examples, answers, strict=True)]
    return _recorded(request, sequences, [len(ids) for ids in answers])


def _recorded(request: FitRequest, sequences: Sequence[tuple[int, ...]], answers: Sequence[int]) -> Targets:
    starts = [len(ids) - n - 1 for ids, n in zip(sequences, answers, strict=True)]
    return record(request.lm, sequences, starts, request.layers, span="R")


def _fitted(request: FitRequest, instructed: Targets, plain: Targets, kind: Kind) -> Fitted:
    about: dict[str, Any] = {"module_id": request.module_id, "origin": request.origin, "kind": kind}
    return Fitted(difference_of_means(instructed, plain, request.layers, request.method.span, **about), ())


def _at_prompt_ends(
    instructed: Targets, plain: Targets, layers: Sequence[int], span: Span, **about: Any
) -> SteeringModule:
    none = [0] * len(instructed)
    return difference_of_means(instructed, plain, layers, span, kind="last", responses=(none, none), **about)


DIM = Learning(_own, reads=(INSTRUCTED, PLAIN), reads_above=False)
DIM_SAME = Learning(_same)
CAA = from_prompt_ends(_at_prompt_ends)

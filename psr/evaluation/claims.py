"""The paper's seven claims (method section 6) and what counts as each of them holding.

A verdict compares the interval of a difference with a margin in CLAIMS, fixed before the run that it is applied to:

    holds      low > margin        fails      high < margin        undecided      otherwise

A difference is signed so that the claim says "larger". It is of one attribute and one seed, between two figures on the
same draws of questions; differences are averaged over seeds and attributes. Seeds (of fitting and sampling both) are
crossed with questions: each resample draws seeds and questions independently of each other, the same for all attributes
(A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007: never too narrow for crossed
factors). S − 1 of S seeds are drawn, since S of S are too narrow by √((S − 1)/S) (Rao & Wu, "Resampling inference with
complex survey data", JASA 83, 1988). Attributes are not drawn: a verdict holds for the attributes that were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from psr.errors import PsrError
from psr.evaluation.bootstrap import LEVEL, SEEDS, Figure, Interval, interval_of, paired
from psr.evaluation.resampling import Array, once

Verdict = Literal["holds", "fails", "undecided", "not measured"]
GOAL = 5  # seeds


@dataclass(frozen=True)
class Claim:
    """says: the claim in the paper's words; margin, in `unit`s: which the difference has to exceed; why: its reason."""

    number: int
    says: str
    margin: float
    unit: str
    why: str


CLAIMS = {claim.number: claim for claim in (
    Claim(1, "the size of the prompt's effect varies by orders of magnitude over tokens", 2.0, "orders of magnitude",
          "“orders” is a plural: the 99th percentile over tokens is a hundred times the 1st"),
    Claim(2, "PSR is above constant steering at matched coherence, on one layer and on all", 0.0, "points",
          "“above” names no size, and the paper's own difference on all layers is 0.3"),
    Claim(3, "all layers are above one layer", 0.0, "points", "“above” names no size"),
    Claim(4, "all-layer PSR (MSE) is at least the prompt at the prompt's coherence", -3.0, "points",
          "“at least” allows what is as good: 3 points less, the most that this project's goals call equal"),
    Claim(5, "all-layer PSR's relative RMSE falls below the floor of paraphrased prompts in the later layers", 0.0,
          "relative RMSE", "“below” names no size"),
    Claim(6, "one-layer constant steering has a relative RMSE above 1 at its own layer and below 1 later", 0.0,
          "relative RMSE", "1 is what no steering has"),
    Claim(7, "PSR with the prompt is above the prompt where the prompt is not perfect", 0.0, "points",
          "“above” names no size"),
)}  # fmt: skip


@dataclass(frozen=True)
class Contrast:
    """One comparison of two methods: the claim says that the figure of `higher` exceeds that of `lower`.

    benchmark, column: of the headline table; scale: the factor to 0..100. higher, lower: slugs of methods, with the span.
    prompt: only attributes whose prompt's mean figure lies in this range are compared. by_rule: the column that takes the place
    of `column` where the judge measures likelihoods, which one of the two methods is fitted to.
    """

    claim: int
    part: str
    benchmark: str
    column: str
    higher: str
    lower: str
    scale: float = 1.0
    prompt: tuple[float, float] | None = None
    by_rule: str = ""

    def by_likelihoods(self) -> Contrast:
        """The same where the judge measures likelihoods: by a rule if a method is fitted to them; else at any prompt, since
        the trait of such a judge has no ceiling."""
        if self.by_rule:
            return replace(self, column=self.by_rule)
        free = self.prompt is not None and self.column in _MATCHED.values()
        return replace(self, part="any prompt", prompt=None) if free else self


NOT_AT_CEILING = (50.0, 95.0)  # trait alignment at which a prompt can be matched and beaten
NOT_PERFECT = (0.0, 95.0)
_MATCHED = {"the prompt's coherence": "ta_cp", "coherence 80": "ta_c80"}
BESIDE = {"ta_cp": "ta_cp2"}  # column -> a steadier one, which is shown beside it and decides nothing
_PAIRS = (
    (2, "one layer, against Const MSE", "s-psr-mse-qr", "s-const-mse-qr"),
    (2, "one layer, against Const DiM", "s-psr-mse-qr", "s-const-dim-r"),
    (2, "all layers, against Const MSE", "a-psr-mse-qr", "a-const-mse-qr"),
    (3, "PSR MSE", "a-psr-mse-qr", "s-psr-mse-qr"),
    (3, "Const MSE", "a-const-mse-qr", "s-const-mse-qr"),
)
_WITH_PROMPT = (
    ("format instructions", "ifeval", "strict", "r", 1.0, ""),
    ("persona", "persona", "ta_cp", "qr", 1.0, "words"),
    ("concepts", "axbench", "overall", "r", 50.0, ""),
)
CONTRASTS = (
    *(
        Contrast(claim, f"{part}, at {point}", "persona", column, higher, lower)
        for claim, part, higher, lower in _PAIRS
        for point, column in _MATCHED.items()
    ),
    Contrast(4, "prompt at 50 to 95", "persona", "ta_cp", "a-psr-mse-qr", "prompt", 1.0, NOT_AT_CEILING),
    *(
        Contrast(
            7,
            f"S-PSR LL, {part}, prompt at most 95",
            benchmark,
            column,
            f"s-psr-ll-{span}+prompt",
            "prompt",
            scale,
            NOT_PERFECT,
            by_rule,
        )
        for part, benchmark, column, span, scale, by_rule in _WITH_PROMPT
    ),
)


@dataclass(frozen=True, eq=False)
class Difference:
    """Of one attribute and one seed. value: on the data itself; samples: [resample]; seed: of the resampling."""

    value: float
    samples: Array
    seed: int


def difference(first: Figure, second: Figure, scale: float = 1.0) -> Difference:
    """scale · (first − second), draw by draw. Raises PsrError as `paired` does."""
    return Difference(scale * paired(first, second).value, scale * (first.samples - second.samples), first.seed)


def error_difference(
    higher: tuple[Array, Array] | None,
    lower: tuple[Array, Array] | None,
    layers: Sequence[int],
    counts: Array,
    seed: int,
) -> Difference:
    """Relative RMSE of `higher` less that of `lower`, the mean over `layers`; None means no steering, whose RMSE is 1.

    higher, lower: (squared errors, energies) [layer, question] (psr.evaluation.faithfulness); counts: [resample, question].
    """
    value, samples = (_rmse(higher, layers, c) - _rmse(lower, layers, c) for c in (once(counts.shape[1]), counts))
    return Difference(float(value[0]), samples, seed)


def _rmse(sums: tuple[Array, Array] | None, layers: Sequence[int], counts: Array) -> Array:
    """[resample]: mean over `layers`."""
    from psr.evaluation.faithfulness import relative_rmse  # needs torch, the rest of this file does not

    return np.ones(len(counts)) if sums is None else relative_rmse(*sums, counts)[:, list(layers)].mean(axis=1)


def mean_difference(differences: Mapping[str, Sequence[Difference]], *, level: float = LEVEL) -> Interval:
    """The mean over attributes of the means over seeds, with its interval over seeds × questions.

    differences: attribute -> one per seed, the seeds in one order. With one seed the interval is over questions alone.
    Raises PsrError for none, or for differences that were not resampled alike.
    """
    alike = sorted({(one.seed, len(one.samples)) for group in differences.values() for one in group})
    if len(alike) != 1 or not all(differences.values()):
        raise PsrError(
            "differences were not resampled together",
            got=alike or "none",
            expected="at least one an attribute, with equal seed and resamples",
        )
    value = float(np.mean([np.mean([one.value for one in group]) for group in differences.values()]))
    return interval_of(value, np.mean([_over_seeds(group) for group in differences.values()], axis=0), level)


def _over_seeds(group: Sequence[Difference]) -> Array:
    """[resample]: the mean over resampled seeds. A seed that a resample does not draw may be nan there."""
    shares = seed_shares(len(group), len(group[0].samples), group[0].seed).T
    return np.where(shares > 0, shares * np.stack([one.samples for one in group]), 0.0).sum(axis=0)


def seed_shares(seeds: int, resamples: int, seed: int) -> Array:
    """Weights [resample, seed] of drawing S − 1 of S seeds with replacement; a row sums to 1."""
    drawn = max(1, seeds - 1)
    generator = np.random.default_rng([seed, SEEDS])
    return generator.multinomial(drawn, np.full(seeds, 1 / seeds), size=resamples) / drawn


def verdict(interval: Interval, margin: float) -> Verdict:
    """Whether a difference is larger than `margin`; undecided for an interval of nan."""
    if interval.low > margin:
        return "holds"
    return "fails" if interval.high < margin else "undecided"


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim's verdict from those of its parts: fails where one fails; any other verdict needs all parts to share it."""
    kinds = set(verdicts)
    if "fails" in kinds:
        return "fails"
    return kinds.pop() if len(kinds) == 1 else "undecided"

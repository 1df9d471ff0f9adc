"""From an instruction to a module, in one call.

answers     the model answers the fitting questions, plainly and with the instruction
judge       how well the two are told apart says how far the model follows; what shows too little, or no sense, is dropped
fit         a module on what is kept
strength    α by the search questions (psr/from_prompt/strength.py)
figures     plain, prompted and steered answers to the evaluation questions, which chose nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psr.answers.questions import Questions
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.fitting.methods import MethodPlug
from psr.fitting.presets import FitSettings
from psr.from_prompt.asked import Asked, Progress
from psr.from_prompt.checks import check_judge, check_lengths, checked_method, checked_questions, slug
from psr.from_prompt.result import Computed, Distilled
from psr.from_prompt.steps import Steps
from psr.from_prompt.wordings import templated
from psr.judges.judging import Judge

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

LONGEST, TEMPERATURE = 64, 0.7  # of an answer, in tokens; paper: 1, which a small model does not stand
ALPHA_MAX = 5.0


def distill(
    lm: LanguageModel,
    instruction: str,
    *,
    questions: Questions | Sequence[str] | None = None,
    paraphrases: Sequence[str] | None = None,
    method: str | MethodPlug = "a-psr-mse-qr",
    layers: Sequence[int] | None = None,
    judge: Judge | None = None,
    attribute: str | None = None,
    suppress: bool = False,
    settings: FitSettings | None = None,
    sampling: Sampling | None = None,
    batch_size: int = 64,
    alpha_max: float = ALPHA_MAX,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Distilled:
    """A module that does what `instruction` does, without it, and the strength to use it at.

    questions: at least 24, each once, which are divided for fitting, search and evaluation; None: 120 everyday ones of our own.
    paraphrases: other wordings of the instruction, which nothing is fitted on; None: templates of ours. Those that do not act
    like the instruction are left out. method: one that has a module (not LoRA); layers: all of them, needed for
    single-layer methods. judge: what rates answers, by its first dimension and by "coherence", shown `attribute` as the
    name of what is judged; None: the likelihood judge. suppress: the module undoes the instruction: steered on
    the prompted chat it computes what the plain one does, and its strength is chosen by answers to prompted questions.
    settings: None: the method's fast preset, 64 steps of 8 answers. sampling: None: 64 tokens at temperature 0.7. force: go on
    where the model does not follow or the judge cannot tell. progress(step, n, total): n more of a step's total are done.

    Raises PsrError: questions that are empty, doubled, too few or too long for the context; an instruction that the model
    does not follow (with the number, nothing is fitted); a judge that cannot tell or does not rate; too few answers kept; no
    strength with an effect. What was answered and judged by then is the error's `computed` (answers with their verdicts).

        >>> import json
        >>> known = json.load(open("data/testbed/persona/extract/pirate.json"))["questions"]
        >>> result = psr.distill(lm, "Talk like a pirate.", questions=known[:32])
        >>> result.reached, psr.load_module(psr.save_module(result.module, "pirate")).recommended_alpha == result.alpha
        (True, True)
    """
    if not instruction.strip():
        raise PsrError("the instruction is empty", expected="a text such as 'Talk like a pirate.'")
    check_judge(judge)
    plug = checked_method(method, layers)
    wordings = () if judge is not None else tuple(paraphrases or templated(instruction))
    sampling = sampling or Sampling(min(LONGEST, lm.context // 2), TEMPERATURE)
    divided = checked_questions(questions)
    check_lengths(lm, divided, (instruction, *wordings), sampling.max_new_tokens)
    asked = Asked(lm, sampling, seed, batch_size, progress)
    steps = Steps(
        asked,
        instruction,
        attribute or f"prompt/{slug(instruction)}",
        divided,
        plug,
        tuple(range(lm.n_layers)) if layers is None else tuple(layers),
        settings,
        suppress,
        force,
    )
    try:
        judged = steps.judged(judge, wordings)
        fitted = steps.fit(judged)
        strength = steps.search(judged.judge, fitted, alpha_max)
        return steps.result(judged, fitted, strength)
    except PsrError as error:
        error.computed = Computed(dict(asked.pairs), tuple(asked.completions), tuple(asked.judgements), steps.module)  # type: ignore[attr-defined]
        raise

"""The speed of judging by likelihood, against the forwards that it needs and against those with every prompt anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median

import torch

from psr.errors import PsrError
from psr.judges.reading import read_answers
from psr.lm.chats import encode_chat
from psr.lm.models import LanguageModel
from psr.lm.padding import pad
from psr.lm.surprise import BATCH
from psr.types import JudgeItem, PromptPair
from tasks.figures.sides import sides
from tasks.studies.bench.material import Material
from tasks.studies.bench.pairs import Figure, Run, ratio

QUESTIONS, ANSWERS, WORDINGS = 8, 8, 3  # of an attribute; of a question; wordings of the prompt, beside none


def likelihood_judging(material: Material) -> Iterator[Figure]:
    """Reading the search's answers to some questions, plain, instructed and steered, behind each wording of the prompt."""
    lm, items = material.lm, answers(material)
    pairs = [triplet.pair for triplet in material.triplets[items[0].attribute]]
    wordings = list(dict.fromkeys(pair.instruction for pair in pairs))[:WORDINGS]
    asked = [PromptPair("", item.question, wording) for item in items for wording in wordings]
    plain = [PromptPair("", item.question, "") for item in items]
    chats = [*(pair.instructed for pair in asked), *(pair.plain for pair in plain)]
    prompts = [tuple(encode_chat(lm.tokenizer, chat).ids) for chat in chats]
    said = [tuple(lm.tokenizer(item.text, add_special_tokens=False)["input_ids"]) for item in items]
    every = [*(ids for ids in said for _ in wordings), *said]
    whole = [(*prompt, *ids) for prompt, ids in zip(prompts, every, strict=True)]
    longest = max(map(len, said))

    def needed() -> None:
        forwards(lm, list(dict.fromkeys(prompts)), 1)
        forwards(lm, every, longest)

    runs: list[Run] = [partial(read_answers, lm, wordings, items), needed, partial(forwards, lm, whole, longest)]
    judged, alone, anew = material.seconds(runs)
    what = "judging by likelihood: answers/s"
    rate = f"{len(items) / median(judged):.1f} answers/s, {len(set(prompts)) / (1 + len(wordings)):.0f} questions"
    rate += f" with and without {len(wordings)} instructions"
    yield Figure(
        "judge",
        what,
        "a forward of each prompt and of each answer alone: answers/s",
        ratio(alone, judged),
        rate,
        at_least=0.8 if material.large else None,
    )
    yield Figure(
        "judge-shared",
        what,
        "a forward of each answer behind its prompt: answers/s",
        ratio(anew, judged),
        rate,
        at_least=1.5 if material.large else None,
    )


def answers(material: Material) -> list[JudgeItem]:
    """Answers to the first questions of the search, at most so many each, of the first attribute that was searched (one whose
    strength is fixed was not). Raises PsrError where there is none."""
    folder = material.data / "search"
    items = []
    of_seed = {
        key: side for key, side in sides(folder, folder).items() if side.completions and key[0] in material.triplets
    }
    for attribute, seed in sorted(of_seed)[:1]:
        side = of_seed[attribute, seed]
        for pair in side.pairs[:QUESTIONS]:
            own = [one for one in side.completions if one.pair == pair.id and one.text.strip()][:ANSWERS]
            items += [JudgeItem(one.id, attribute, pair.question, one.text, one.finished) for one in own]
    if not items:
        raise PsrError("the bench needs answers", where=folder, expected="completions of the search", got="none")
    return items


@torch.inference_mode()
def forwards(lm: LanguageModel, sequences: Sequence[Sequence[int]], kept: int) -> None:
    """Each sequence once, without a cache, in batches of like length; the head runs over the last `kept` tokens."""
    ordered = sorted(sequences, key=len)
    for at in range(0, len(ordered), BATCH):
        ids, attention = pad(ordered[at : at + BATCH], lm.pad_id, side="left", device=lm.device)
        hidden = lm.base(input_ids=ids, attention_mask=attention, use_cache=False)[0]
        lm.model.get_output_embeddings()(hidden[:, -kept:])

"""The judge `openai` against a server on loopback that answers, and one that misbehaves in every way that servers do."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import replace

import pytest

import psr
from psr.errors import PsrError
from psr.judges.endpoint import OpenAIJudge
from psr.types import Attribute, JudgeItem, Usage
from tests.judge_server import KEY, MODEL, TOP, Endpoint, Reply, completion, endpoint

PIRATE = Attribute("persona", "pirate", (), (), (), (), (), "How much of a pirate is in {answer}, said to {question}?")
SHIPS = Attribute("axbench", "ships", (), (), (), (), (), "terms of ships and the sea")
COMMAS = Attribute(
    "ifeval", "punctuation:no_comma", (), (), (), (), (), "", (("instruction_id", "punctuation:no_comma"),)
)
ITEMS = [JudgeItem(name, "persona/pirate", f"What is {name}?", f"Arr, {name}!") for name in ("rain", "snow", "wind")]


def judge(served: Endpoint | str, benchmark: str = "persona", **settings) -> OpenAIJudge:
    url = served if isinstance(served, str) else served.base_url
    attributes = {one.key: one for one in (PIRATE, SHIPS, COMMAS) if one.benchmark == benchmark}
    given = {"model": MODEL, "timeout": 5.0, "retries": 0, "key_of": {"OPENAI_API_KEY": KEY}.get, **settings}
    return OpenAIJudge(benchmark, attributes, base_url=url, **given)


def values(verdicts) -> dict[tuple[str, str], float | None]:
    return {(one.completion, one.dimension): one.value for one in verdicts.judgements}


def reasons(verdicts) -> set[str]:
    return {one.error for one in verdicts.judgements if one.value is None}


def refused(asked: OpenAIJudge, items=ITEMS) -> str:
    """The one line with which judging ends; it has no key in it."""
    with pytest.raises(PsrError) as error:
        asked(items)
    line = str(error.value)
    assert "\n" not in line
    assert KEY not in line
    assert error.value.__cause__ is None
    return line


def test_persona_is_rated_by_the_weighted_mean_of_one_token() -> None:
    with endpoint(
        lambda body, n: completion(top=[*[("x", -9.0)] * 18, ("80", math.log(0.3)), (" 90", math.log(0.1))])
    ) as served:
        verdicts = judge(served)(ITEMS)
    assert list(values(verdicts).values()) == pytest.approx([82.5] * 6)
    assert [one.dimension for one in verdicts.judgements] == ["trait", "coherence"] * 3
    assert {(one.judge, one.rubric) for one in verdicts.judgements} == {(f"openai:{MODEL}", "persona-logprobs-1")}
    assert verdicts.usage == Usage(6, 600, 6)
    probe, body = served.asked[0], served.asked[1]
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"], body["temperature"], body["seed"]) == (
        True,
        20,
        1,
        0.0,
        0,
    )
    assert (probe["logprobs"], probe["top_logprobs"]) == (True, 20)
    assert served.headers[0]["authorization"] == f"Bearer {KEY}"
    assert "How much of a pirate is in Arr, rain!, said to What is rain??" in served.texts


def test_read_as_text_it_is_another_judge_and_no_probe_is_sent() -> None:
    with endpoint(lambda body, n: completion("Score: [[30]]", None)) as served:
        verdicts = judge(served, reading="text", seed=None)(ITEMS)
    assert set(values(verdicts).values()) == {30.0}
    assert {one.rubric for one in verdicts.judgements} == {"persona-text-1"}
    assert len(served.asked) == 6
    assert not {"logprobs", "top_logprobs", "seed"} & set(served.asked[0])


def test_axbench_has_three_ratings_in_text_and_needs_no_probabilities() -> None:
    items = [JudgeItem("a", "axbench/ships", "What is rain?", "Water on deck.")]
    with endpoint(lambda body, n: completion(f"Rating: [[{n % 3}]]", None)) as served:
        asked = judge(served, "axbench")
        verdicts = asked(items)
    assert {one.dimension for one in verdicts.judgements} == {"concept", "instruction", "fluency"}
    assert sorted(values(verdicts).values()) == [0.0, 1.0, 2.0]
    assert {one.scale for one in verdicts.judgements} == {2.0}
    assert (asked.rubric, asked.calls_per_item) == ("axbench-text-1", 3)
    assert sum("terms of ships and the sea" in text for text in served.texts) == 1


def test_ifeval_takes_its_accuracies_from_the_checkers_and_asks_for_coherence() -> None:
    items = [JudgeItem(text, COMMAS.key, "What is rain?", text) for text in ("Water.", "Water, from above.")]
    with endpoint() as served:
        asked = judge(served, "ifeval")
        verdicts = asked(items)
    assert values(verdicts) == {
        ("Water.", "accuracy"): 100.0, ("Water.", "coherence"): pytest.approx(69.5), ("Water.", "accuracy_loose"): 100.0,
        ("Water, from above.", "accuracy"): 0.0, ("Water, from above.", "coherence"): pytest.approx(69.5),
        ("Water, from above.", "accuracy_loose"): 0.0,
    }  # fmt: skip
    assert (asked.calls_per_item, len(served.texts)) == (1, 2)


def test_nothing_is_asked_twice_by_any_judge_with_the_same_answers() -> None:
    kept: dict = {}
    with endpoint() as served:
        first = judge(served, answers=kept)(ITEMS)
        again = judge(served, answers=kept, concurrency=1, timeout=9.0, max_calls=7)(ITEMS)
        assert (values(again), again.usage, len(served.asked)) == (values(first), Usage(), 7)
        other = JudgeItem(
            "b", ITEMS[0].attribute, ITEMS[0].question, ITEMS[0].text
        )  # the same text of another completion
        assert judge(served, answers=kept)([other]).usage == Usage()
        for change in ({"temperature": 0.5}, {"seed": 1}, {"reading": "text"}):
            assert judge(served, answers=kept, **change)(ITEMS[:1]).usage.calls == 2
    assert {one.judge for one in kept.values()} == {f"openai:{MODEL}"}
    assert KEY not in repr(kept)


def test_the_same_text_twice_in_a_call_is_asked_once_and_judged_for_both() -> None:
    twin = replace(ITEMS[0], completion="twin")
    with endpoint() as served:
        verdicts = judge(served)([ITEMS[0], twin])
    assert len(served.texts) == 2
    assert len(values(verdicts)) == 4
    assert None not in values(verdicts).values()


def test_questions_are_asked_at_once_but_no_more_than_said() -> None:
    items = [JudgeItem(str(n), "persona/pirate", "What?", f"Arr {n}") for n in range(8)]
    with endpoint(lambda body, n: Reply(completion(), hang=0.3)) as served:
        judge(served, concurrency=3, retries=2)(items)  # a busy machine may drop a connection
    assert served.most == 3


def test_it_works_where_an_event_loop_runs_already() -> None:
    async def cell() -> int:
        return len(judge(served)(ITEMS).judgements)

    with endpoint() as served:
        assert asyncio.run(cell()) == 6


def test_an_endpoint_that_is_busy_is_asked_again_when_it_says() -> None:
    def busy(body, n):
        return Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.3"}) if n == 0 else completion()

    with endpoint(busy) as served:
        begun = time.monotonic()
        verdicts = judge(served, retries=1, reading="text", concurrency=1)(ITEMS[:1])
    assert time.monotonic() - begun >= 0.3
    assert (set(values(verdicts).values()), len(served.asked)) == ({70.0}, 3)


@pytest.mark.parametrize(
    "bad",
    [
        Reply({"error": {"message": "oops"}}, 500, {"Retry-After": "0.01"}),
        Reply(completion(), cut=True),
        Reply(completion(), hang=3.0),
    ],
    ids=["500", "cut", "hang"],
)
def test_what_fails_once_is_tried_again(bad: Reply) -> None:
    with endpoint(lambda body, n: bad if n == 0 else completion()) as served:
        verdicts = judge(served, retries=1, timeout=0.5)(ITEMS[:1])
    assert list(values(verdicts).values()) == pytest.approx([69.5] * 2)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (Reply({"error": {"message": f"busy, {KEY}"}}, 429), "takes no more questions"),
        (Reply({"error": {"message": f"oops {KEY}"}}, 500), "the endpoint fails .*oops …"),
        (Reply("<html>down</html>", 503), "the endpoint fails"),
        (Reply(completion(), hang=3.0), "too slow .*no answer in 0.3 s"),
        (Reply(completion(), cut=True), "cannot be reached, or breaks off"),
        (Reply({"error": {"message": f"Incorrect key {KEY[:9]}***"}}, 401), "refuses the key .*status 401. Set .*OPENAI_API_KEY"),
        (Reply({"error": {"message": "no"}}, 403), "refuses the key"),
        (Reply({"error": {"message": "no such model"}}, 404), "does not know the model"),
        (Reply({"error": {"message": "max_tokens is not supported"}}, 400), "refuses the question .*max_tokens is not"),
        (completion(model="other"), "another model answers than was asked .*expected judge-1, got other"),
        (completion(model=None), "another model answers"),
        ({"id": "1", "choices": [], "model": MODEL}, "answers without a choice"),
        ({}, "answers without a choice"),
        ({"choices": None, "model": MODEL, "error": f"quota of {KEY}"}, "answers without a choice"),
        (Reply("<html>welcome</html>"), "answers without a choice .*welcome"),
        (Reply("{", headers={"Content-Type": "application/json"}), "something else than a chat completion"),
        ([], "answers without a choice"),
    ],
)  # fmt: skip
def test_what_is_no_answer_ends_with_one_line_and_keeps_what_was_paid_for(bad, line: str) -> None:
    import re

    kept: dict = {}
    with endpoint(lambda body, n: completion() if n < 3 else bad) as served:
        said = refused(judge(served, answers=kept, concurrency=1, timeout=0.3))
        assert re.search(line, said), said
        assert len(kept) == 3  # the probe and two answers
        assert len(served.asked) == 4  # after one failure nothing more is asked
    with endpoint() as mended:
        rows = {key: replace(one) for key, one in kept.items()}
        assert KEY not in repr(rows)
        assert "base_url" not in repr(rows)
        assert len(judge(mended, answers=dict(rows))(ITEMS).judgements) == 6


def test_an_endpoint_that_is_down_is_said_to_be() -> None:
    with endpoint() as served:
        gone = served.base_url
    assert "cannot be reached" in refused(judge(gone))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (completion("As a judge, I find it delightful!"), "the judge gave no number: 'As a judge, I find it delightful!'"),
        (completion(None, refusal="I can't help with that."), "the judge refused: \"I can't help with that.\""),
        (completion("", finish_reason="content_filter"), "the endpoint's content filter withheld the reply"),
        (completion(None), "the judge gave no number: ''"),
        (Reply({"error": {"message": "filtered", "code": "content_filter"}}, 400), "the endpoint refuses this text"),
        (Reply({"error": {"message": "maximum context length is 9"}}, 400), "the endpoint refuses this text"),
    ],
)  # fmt: skip
def test_a_reply_without_a_number_is_missing_with_the_reason_and_no_other_is_touched(bad, reason: str) -> None:
    def script(body, n):
        return bad if "snow" in body["messages"][0]["content"] else completion("Score: [[55]]")

    with endpoint(script) as served:
        asked = judge(served, reading="text")
        verdicts = psr.judge_all(asked, ITEMS)
        found = values(verdicts)
        assert [found[name, "trait"] for name in ("rain", "snow", "wind")] == [55.0, None, 55.0]
        assert [one.startswith(reason) for one in reasons(verdicts)] == [True]
        calls = len(served.asked)
        assert values(psr.judge_all(asked, ITEMS)) == found
        assert len(served.asked) == calls  # a refusal was paid for too


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (completion(top=None), "no log-probabilities"),
        (completion(logprobs={"content": None}), "no log-probabilities"),
        (completion(logprobs={"content": {"token": "7"}}), "no log-probabilities"),
        (completion(logprobs={"content": [None]}), "no log-probabilities"),
        (completion(logprobs={"content": [{"top_logprobs": {"7": -1}}]}), "no log-probabilities"),
        (completion(logprobs={"content": [{"token": "7", "top_logprobs": None}]}), "no log-probabilities"),
        (completion(logprobs={"content": [{"token": "7", "top_logprobs": [{"token": "7", "logprob": None}]}]}), "no log-prob"),
        (completion(top=[("Sure", -0.1), ("70", math.log(0.2))]), "weight of 0.20, expected 0.25 to 1"),
        (completion(top=[("70", -0.1), ("70", -0.1)]), "add up to 1.81"),
        (completion(top=[("70", 3.0), ("Sure", -9999.0)]), None),  # capped at a probability of 1
    ],
)  # fmt: skip
def test_log_probabilities_that_say_nothing_are_missing_with_the_reason(bad, reason: str | None) -> None:
    with endpoint(lambda body, n: completion() if n == 0 else bad) as served:
        verdicts = judge(served)(ITEMS[:1])
    if reason is None:
        assert set(values(verdicts).values()) == {70.0}
    else:
        assert {None} == set(values(verdicts).values())
        assert all(reason in why for why in reasons(verdicts))


def test_a_reply_whose_json_names_a_key_twice_counts_as_every_parser_reads_it() -> None:
    import json

    text = json.dumps(completion("Score: [[10]]", None)).replace(
        '"content": "Score', '"content": "Score: [[90]]", "content": "Score'
    )
    with endpoint(lambda body, n: Reply(text, headers={"Content-Type": "application/json"})) as served:
        assert set(values(judge(served, reading="text")(ITEMS[:1])).values()) == {10.0}


@pytest.mark.parametrize(
    "bad", [completion(top=None), completion(top=TOP[:5]), Reply({"error": {"message": "logprobs?"}}, 422)]
)
def test_an_endpoint_that_ignores_log_probabilities_is_found_by_one_question(bad) -> None:
    with endpoint(lambda body, n: bad) as served:
        line = refused(judge(served))
        assert "does not give the log-probabilities" in line
        assert "set judge.reading to text" in line
        assert len(served.asked) == 1


def test_a_probe_that_is_refused_for_another_reason_says_that_reason() -> None:
    with endpoint(lambda body, n: Reply({"error": {"message": "max_tokens is not known here"}}, 400)) as served:
        line = refused(judge(served))
    assert "refuses the question" in line
    assert "max_tokens is not known here" in line


def test_the_budget_stops_before_it_is_exceeded_and_counts_what_is_kept() -> None:
    kept: dict = {}
    with endpoint() as served:
        line = refused(judge(served, answers=kept, max_calls=4))
        assert "budget is used up" in line
        assert "at most 4" in line
        assert "Raise judge.max_calls. What was answered is kept: run again to go on." in line
        assert (len(served.asked), len(kept)) == (4, 4)
        refused(judge(served, answers=kept, max_calls=4))
        assert len(served.asked) == 4
        assert len(judge(served, answers=kept, max_calls=7)(ITEMS).judgements) == 6
        assert len(served.asked) == 7


def test_a_budget_of_tokens_covers_each_question_before_it_is_asked() -> None:
    kept: dict = {}
    with endpoint() as served:
        assert "max_tokens" in refused(judge(served, answers=kept, concurrency=1, max_tokens=50))
        assert not served.asked
        refused(judge(served, answers=kept, concurrency=1, max_tokens=900))
        assert sum(one.tokens_in + one.tokens_out for one in kept.values()) <= 900
        assert 1 < len(kept) < 7
        judge(served, answers=kept, max_tokens=100_000)(ITEMS)
        assert len(served.asked) == 7


def test_an_endpoint_that_does_not_say_what_it_used_is_counted_at_most() -> None:
    def script(body, n):
        return {name: value for name, value in completion("Score: [[1]]").items() if name != "usage"}

    with endpoint(script) as served:
        usage = judge(served, reading="text")(ITEMS[:1]).usage
    assert usage.tokens_in >= sum(len(text) for text in served.texts)


def test_without_a_key_nothing_is_asked() -> None:
    with endpoint() as served:
        for key_of in (None, {}.get, {"OPENAI_API_KEY": " "}.get):
            line = refused(judge(served, key_of=key_of))
            assert "there is no key for the endpoint" in line
            assert "environment variable OPENAI_API_KEY" in line
        assert not served.asked
        judge(served, key_of=None, key_variable="")(ITEMS)
        judge(served, key_of={"MINE": KEY}.get, key_variable="MINE")(ITEMS)
    assert KEY not in served.headers[0]["authorization"]
    assert KEY in served.headers[-1]["authorization"]


def test_the_key_is_in_no_log_no_repr_and_no_row(caplog: pytest.LogCaptureFixture, capfd) -> None:
    caplog.set_level(logging.DEBUG)
    kept: dict = {}
    with endpoint(lambda body, n: completion(f"The key is {KEY}. Score: [[5]]")) as served:
        asked = judge(served, reading="text", answers=kept)
        verdicts = asked(ITEMS)
        asked = judge(served, answers={})
        asked(ITEMS)
    out, err = capfd.readouterr()
    everything = [
        repr(asked),
        str(asked),
        repr(kept),
        repr(verdicts),
        caplog.text,
        out,
        err,
        repr(asked.reads("persona/pirate")),
    ]
    assert not [text for text in everything if KEY in text]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"model": ""}, "model"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": f"https://user:{KEY}@x/v1"}, "base_url"),
        ({"base_url": f"https://x/v1?key={KEY}"}, "base_url"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"max_calls": -1}, "max_calls"),
        ({"temperature": -1.0}, "temperature"),
        ({"benchmark": "songs"}, "no rubric for this benchmark"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, line: str) -> None:
    given = {"benchmark": "persona", "base_url": "http://127.0.0.1:1/v1", "model": MODEL, **settings}
    with pytest.raises(PsrError, match=line) as error:
        OpenAIJudge(given.pop("benchmark"), {}, **given)
    assert KEY not in str(error.value)


def test_an_attribute_that_it_was_not_given_is_missing_and_not_asked_about() -> None:
    with endpoint() as served:
        verdicts = judge(served)([replace(ITEMS[0], attribute="persona/grumpy")])
    assert reasons(verdicts) == {"this judge was not given the attribute"}
    assert not served.asked

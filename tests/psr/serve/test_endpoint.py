"""OpenAI's own client and curl, answered by a real server: each answer is psr.generate's to the same, however it is asked for."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess

import openai
import pytest
import torch
from served import ASKED, QUESTIONS

from psr.answers.sampling import Sampling
from psr.lm.chats import encode_chat
from psr.steering.hooks import Steer, steered
from psr.types import Message


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=served.base_url, api_key="none", max_retries=0) as one:
        yield one


def asked(content=QUESTIONS[0], **options):
    return {"model": "toy", "messages": [{"role": "user", "content": content}], "seed": 0, "max_tokens": 24, **options}


def streamed(client, **options):
    """The text, the reason of the end and the chunks of a streamed answer."""
    chunks = list(client.chat.completions.create(**asked(stream=True, **options)))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    return text, [choice.finish_reason for choice in choices if choice.finish_reason], chunks


def test_a_whole_answer_is_the_one_of_generate(client, served):
    answer = client.chat.completions.create(**asked(temperature=0.7, top_p=0.9))
    expected = served.expected(sampling=Sampling(24, 0.7, 0.9))
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", expected.text)
    assert choice.finish_reason == ("stop" if expected.finished else "length")
    prompt = len(encode_chat(served.engine.lm.tokenizer, (Message("user", QUESTIONS[0]),)).ids)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt, len(expected.token_ids))
    assert (answer.object, answer.model, answer.system_fingerprint) == (
        "chat.completion",
        "toy",
        served.engine.lm.fingerprint,
    )


def test_a_streamed_answer_has_the_same_text_in_pieces(client, served):
    text, ends, chunks = streamed(client, stream_options={"include_usage": True})
    expected = served.expected()
    assert text == expected.text
    assert ends == ["stop" if expected.finished else "length"]
    assert len(chunks) > 10
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(expected.token_ids)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    without = streamed(client)[2]
    assert without[-1].choices
    assert all(chunk.usage is None for chunk in without)


def test_the_models_name_or_an_extra_field_says_what_steers(client, served):
    def text(model="toy", steer=None):
        extra = {} if steer is None else {"steer": steer}
        answer = client.chat.completions.create(**asked(model=model), extra_body=extra)
        return answer.choices[0].message.content, answer.steer

    plain = served.expected().text
    assert text() == (plain, [])
    assert text(steer=[]) == (plain, [])
    bold = served.expected(bold=1.5).text
    assert bold != plain
    assert text("toy:bold") == (bold, [{"module": "bold", "alpha": 1.5}])
    assert text(steer=[{"module": "bold"}]) == text("toy:bold")
    assert text(steer=[{"module": "bold", "alpha": 0.25}])[0] == served.expected(bold=0.25).text
    assert text(steer=[{"module": "bold", "alpha": 0}])[0] == plain
    assert text("toy:deep/er") == (served.expected(**{"deep/er": 1.0}).text, [{"module": "deep/er", "alpha": 1.0}])
    both = [{"module": "bold", "alpha": -0.5}, {"module": "whole", "alpha": 1}]
    assert text(steer=both) == (served.expected(bold=-0.5, whole=1.0).text, both)


def test_models_are_listed_with_their_strengths(client):
    models = {model.id: model for model in client.models.list()}
    assert list(models) == ["toy", "toy:bold", "toy:calm", "toy:deep/er", "toy:whole"]
    assert (models["toy:bold"].recommended_alpha, models["toy:bold"].safe_alpha) == (1.5, [0.5, 2.0])
    assert (models["toy:deep/er"].recommended_alpha, models["toy:deep/er"].safe_alpha) == (1.0, None)
    assert models["toy:whole"].span == "QR"
    assert client.models.retrieve("toy:deep/er") == models["toy:deep/er"]
    with pytest.raises(openai.NotFoundError, match="no such module"):
        client.models.retrieve("toy:nobody")


def test_requests_that_arrive_together_are_one_batch_and_each_gets_what_it_gets_alone(served):
    sizes: list[int] = []
    lm = served.engine.lm
    steers = [
        {},
        {"bold": 1.5},
        {"calm": 0.5},
        {"deep/er": 1.0},
        {"whole": 0.7},
        {"bold": 0.5, "calm": 1.0},
        {"bold": -1.0},
    ]
    wanted = [(QUESTIONS[i % 4], i, steers[i % 7], (1.0, 0.7, 0.0)[i % 3], 8 + i) for i in range(16)]

    async def ask():
        async with openai.AsyncOpenAI(base_url=served.base_url, api_key="none", max_retries=0) as client:

            async def one(i, content, seed, steer, temperature, longest):
                options = asked(content, seed=seed, temperature=temperature, max_tokens=longest)
                extra = {"steer": [{"module": name, "alpha": alpha} for name, alpha in steer.items()]}
                if i % 2:
                    answer = await client.chat.completions.create(**options, extra_body=extra)
                    return answer.choices[0].message.content
                parts = await client.chat.completions.create(**options, stream=True, extra_body=extra)
                return "".join([part.choices[0].delta.content or "" async for part in parts])

            return await asyncio.gather(*(one(i, *each) for i, each in enumerate(wanted)))

    handle = lm.base.register_forward_hook(lambda base, args, output: sizes.append(len(output.last_hidden_state)))
    try:
        texts = asyncio.run(ask())
    finally:
        handle.remove()
    expected = [
        served.expected(content, seed, Sampling(longest, temperature), **steer).text
        for content, seed, steer, temperature, longest in wanted
    ]
    assert texts == expected
    assert len(set(texts)) > 10
    assert max(sizes) > 4


def test_text_ends_before_a_stop_string_and_nothing_of_it_is_streamed(client, served):
    whole = served.expected().text
    words = whole.split()
    stop = f"{words[4]} {words[5]}"  # of several tokens
    expected = whole[: whole.index(stop)]
    for stops in (stop, ["never said", stop]):
        answer = client.chat.completions.create(**asked(stop=stops))
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (expected, "stop")
        assert streamed(client, stop=stops)[:2] == (expected, ["stop"])
    assert client.chat.completions.create(**asked(stop=[])).choices[0].message.content == whole
    assert client.chat.completions.create(**asked(stop=words[0])).choices[0].message.content == ""


def test_log_probabilities_are_of_the_steered_model_at_temperature_one(client, served):
    lm, module = served.engine.lm, served.registry.modules["bold"]
    options = asked(temperature=0.5, logprobs=True, top_logprobs=3, max_tokens=12)
    answer = client.chat.completions.create(**options, extra_body={"steer": [{"module": "bold"}]})
    expected = served.expected(sampling=Sampling(12, 0.5), bold=1.5)
    prompt = encode_chat(lm.tokenizer, (Message("user", QUESTIONS[0]),))
    ids = [*prompt.ids, *expected.token_ids]
    with torch.no_grad(), steered(lm.model, [Steer(module, 1.5, prompt.response)]):
        logits = lm.model(input_ids=torch.tensor([ids])).logits[0].double()
    every = torch.log_softmax(logits, dim=-1)[len(prompt.ids) - 1 :]
    content = answer.choices[0].logprobs.content
    said = [token for token in expected.token_ids if token not in lm.stop_ids]
    assert len(content) == len(said)
    for entry, token, at in zip(content, said, every, strict=False):
        assert math.isclose(entry.logprob, at[token], abs_tol=1e-4)
        assert [one.logprob for one in entry.top_logprobs] == pytest.approx(at.topk(3).values.tolist(), abs=1e-4)
        assert bytes(entry.bytes).decode() == entry.token
    assert "".join(entry.token for entry in content).strip() == expected.text.strip()

    parts = client.chat.completions.create(**options, stream=True, extra_body={"steer": [{"module": "bold"}]})
    pieces = [
        entry for part in parts for choice in part.choices if choice.logprobs for entry in choice.logprobs.content
    ]
    assert [entry.token for entry in pieces] == [entry.token for entry in content]
    assert client.chat.completions.create(**asked()).choices[0].logprobs is None
    stopping = {**options, "stop": [expected.text.split()[3]]}
    cut = client.chat.completions.create(**stopping, extra_body={"steer": [{"module": "bold"}]})
    assert len(cut.choices[0].logprobs.content) < len(said)


def test_a_seed_that_was_not_given_is_another_each_time_and_is_told(client):
    options = asked()
    del options["seed"]
    answers = [client.chat.completions.create(**options) for _ in range(6)]
    assert len({answer.seed for answer in answers}) == 6
    assert len({answer.choices[0].message.content for answer in answers}) > 1
    again = client.chat.completions.create(**{**options, "seed": answers[0].seed})
    assert again.choices[0].message.content == answers[0].choices[0].message.content


def test_messages_go_to_the_template_as_they_are(client, served):
    lm = served.engine.lm
    chat = (
        Message("system", "You are a pirate."),
        *(Message("user", QUESTIONS[0]), Message("assistant", "Arr."), Message("user", QUESTIONS[1])),
    )
    turns = [{"role": role, "content": content} for role, content in chat]
    turns[0]["role"] = "developer"
    turns[1]["content"] = [{"type": "text", "text": QUESTIONS[0][:4]}, {"type": "text", "text": QUESTIONS[0][4:]}]
    first = client.chat.completions.create(**asked())
    turns[2] = {**first.choices[0].message.model_dump(), "content": "Arr."}  # an answer goes back as it came
    answer = client.chat.completions.create(**{**asked(), "messages": turns, "user": "me", "metadata": {}, "n": 1})
    assert answer.usage.prompt_tokens == len(encode_chat(lm.tokenizer, chat).ids)


def test_an_answer_without_a_longest_ends_by_itself_or_with_the_context(client, served):
    options = asked(temperature=0)
    del options["max_tokens"]
    answer = client.chat.completions.create(**options)
    prompt = answer.usage.prompt_tokens
    expected = served.expected(sampling=Sampling(served.engine.lm.context - prompt, 0))
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == ("stop" if expected.finished else "length")


def curl(served, *arguments):
    done = subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_curl_gets_an_answer_whole_and_as_it_comes(served):
    url = f"{served.base_url}/chat/completions"
    sent = ("-H", "Content-Type: application/json", "-d")
    whole = json.loads(curl(served, url, *sent, json.dumps(asked(messages=ASKED))))
    assert whole["choices"][0]["message"]["content"] == served.expected().text
    lines = [line for line in curl(served, "-N", url, *sent, json.dumps(asked(stream=True))).split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    parts = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in parts) == served.expected().text
    assert json.loads(curl(served, f"http://127.0.0.1:{served.address[1]}/health"))["status"] == "ok"

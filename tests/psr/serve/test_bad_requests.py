"""What cannot be answered is refused in OpenAI's shape and one line; the server answers the next request as before."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import openai
import pytest
from served import ASKED, random_module, serving, until

from psr.answers.sampling import Sampling
from psr.lm.exclusive import alone
from psr.serve import api, door
from psr.serve.registry import Registry, load_registry
from psr.steering.module import save_module

EIGHT = Sampling(8)
GOOD = {"model": "toy", "messages": ASKED, "seed": 0, "max_tokens": 8}


def user(content):
    return {"messages": [{"role": "user", "content": content}]}


def roles(*names):
    return {"messages": [{"role": name, "content": "Hello there."} for name in names]}


REFUSED = [  # what is changed, status, param, code, words of the line
    ({"model": "gpt-4"}, 404, "model", "model_not_found", "no such model.*toy, toy:bold"),
    ({"model": "toy:nobody"}, 404, "steer", "model_not_found", "no such module.*'nobody'"),
    ({"model": "toy:"}, 404, "steer", "model_not_found", "no such module"),
    ({"model": 3}, 400, "model", "invalid_value", "valid string, got 3"),
    ({"steer": [{"module": "nobody", "alpha": 1}]}, 404, "steer", "model_not_found", "no such module"),
    ({"steer": [{"module": "../bold"}]}, 404, "steer", "model_not_found", "no such module"),
    ({"model": "toy:bold", "steer": [{"module": "calm"}]}, 400, "steer", "invalid_value", "named twice"),
    ({"steer": [{"module": "bold", "alpha": 1e30}]}, 400, "steer", "invalid_value", "out of range.*-100 to 100"),
    ({"steer": [{"module": "bold", "alpha": "1"}]}, 400, "steer.0.alpha", "invalid_value", "valid number, got '1'"),
    ({"steer": [{"module": "bold", "strength": 1}]}, 400, "steer.0.strength", "unknown_parameter", "unsupported argument"),
    ({"steer": [{"alpha": 1}]}, 400, "steer.0.module", "missing_parameter", "missing"),
    ({"steer": "bold"}, 400, "steer", "invalid_value", "valid array"),
    ({"steer": [{"module": "bold"}] * 9}, 400, "steer", "invalid_value", "at most 8"),
    ({"messages": []}, 400, "messages", "invalid_value", "at least 1"),
    ({"messages": ASKED * 1001}, 400, "messages", "invalid_value", "at most 1000"),
    (user(""), 400, "messages", "invalid_value", "the chat is empty"),
    (user("  \n"), 400, "messages", "invalid_value", "the chat is empty"),
    (user("trains " * 300), 400, "messages", "context_length_exceeded", "at most 256 tokens, got .* of the messages"),
    (user([{"type": "image_url", "image_url": {"url": "x"}}]), 400, "messages.0.content.0.type", "invalid_value", "'text'"),
    (user(None), 400, "messages.0.content", "invalid_value", "valid"),
    (roles("tool"), 400, "messages.0.role", "invalid_value", "'system', 'developer', 'user' or 'assistant'"),
    (roles("user", "assistant"), 400, "messages", "invalid_value", "does not end with a user turn"),
    (roles("user", "system", "user"), 400, "messages", "invalid_value", "system turn in the middle"),
    ({"max_tokens": 0}, 400, "max_tokens", "invalid_value", "greater than or equal to 1"),
    ({"max_tokens": 250}, 400, "messages", "context_length_exceeded", r"256 tokens, got \d+ of the messages \+ 250 new"),
    ({"max_tokens": 100_000_000}, 400, "messages", "context_length_exceeded", "at most 256 tokens"),
    ({"max_completion_tokens": 4}, 400, None, "invalid_value", "one and the same"),
    ({"max_tokens": 1.5}, 400, "max_tokens", "invalid_value", "integer"),
    ({"temperature": -1}, 400, "temperature", "invalid_value", "greater than or equal to 0"),
    ({"temperature": 3}, 400, "temperature", "invalid_value", "less than or equal to 2"),
    ({"top_p": 0}, 400, "top_p", "invalid_value", "greater than 0"),
    ({"n": 2}, 400, "n", "invalid_value", "less than or equal to 1"),
    ({"stop": ["a"] * 5}, 400, "stop", "invalid_value", "at most 4"),
    ({"stop": ""}, 400, "stop", "invalid_value", "at least 1"),
    ({"seed": "x"}, 400, "seed", "invalid_value", "integer"),
    ({"seed": 2**70}, 400, "seed", "invalid_value", "less than"),
    ({"top_logprobs": 3}, 400, None, "invalid_value", "needs logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "invalid_value", "less than or equal to 20"),
    ({"stream_options": {"include_usage": True}}, 400, None, "invalid_value", "needs stream"),
    ({"frequency_penalty": 0.5}, 400, "frequency_penalty", "invalid_value", "equal to 0"),
    ({"logit_bias": {"5": 100}}, 400, "logit_bias", "invalid_value", "at most 0"),
    ({"tools": [{"type": "function"}]}, 400, "tools", "invalid_value", "at most 0"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format.type", "invalid_value", "'text'"),
    ({"steeer": []}, 400, "steeer", "unknown_parameter", "unsupported argument: steeer"),
]  # fmt: skip


def check(answer, status, code, words, param=...):
    """The error has OpenAI's shape, and its line says this."""
    got, _, body = answer
    assert got == status, body
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error = body["error"]
    assert error["code"] == code, error
    assert param is ... or error["param"] == param, error
    assert re.search(words, error["message"]), error
    assert "\n" not in error["message"]
    assert "Traceback" not in error["message"]
    assert len(error["message"]) <= 500
    return error


@pytest.mark.parametrize(("change", "status", "param", "code", "words"), REFUSED)
def test_a_request_that_cannot_be_answered_is_refused_with_the_reason(served, change, status, param, code, words):
    check(served.post({**GOOD, **change}), status, code, words, param)
    if "stream_options" not in change:
        check(served.post({**GOOD, "stream": True, **change}), status, code, words, param)
    assert served.engine.running == served.engine.waiting == 0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_strength_that_is_no_finite_number_is_refused(served, value):
    body = json.dumps({**GOOD, "steer": [{"module": "bold", "alpha": 7}]}).replace("7", value).encode()
    check(served.post(body), 400, "invalid_value", "finite number", "steer.0.alpha")


@pytest.mark.parametrize("body", [
    b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"{" * 5000, json.dumps(GOOD).encode()[:-5], b"[" * 200_000,
    json.dumps({**GOOD, **user("\ud800 alone")}).encode(), json.dumps({**GOOD, **user("\udc00")}).encode(),
    json.dumps({**GOOD, "model": "\ud800"}).encode(), json.dumps(GOOD).encode("utf-16"),
])  # fmt: skip
def test_a_body_that_is_no_request_is_refused(served, body):
    status, _, answer = served.post(body)
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert "\n" not in answer["error"]["message"]
    assert served.post(GOOD)[0] == 200


def test_other_addresses_methods_and_types_are_refused_in_the_same_shape(served):
    check(served.get("/v1/nothing"), 404, "unknown_url", "no such address: GET /v1/nothing")
    check(served.get("/docs"), 404, "unknown_url", "no such address")
    check(served.get("/openapi.json"), 404, "unknown_url", "no such address")
    check(served.get("/v1/chat/completions"), 405, "unknown_url", "GET")
    check(served.post(GOOD, **{"Content-Type": "text/plain"}), 415, "unsupported_media_type", "application/json")
    options = served.ask("OPTIONS", "/v1/chat/completions", None, {"Origin": "http://evil.example"})
    assert not [name for name in options[1] if name.startswith("access-control")]
    check(served.post(GOOD, Host="evil.example"), 403, "wrong_host", "this machine only")
    for host in ("localhost:99", "127.0.0.1", "[::1]:80"):
        assert served.get("/health", Host=host)[0] == 200


def test_a_body_of_ten_megabytes_is_refused_and_not_kept(served):
    large = json.dumps({**GOOD, **user("x" * 10_000_000)}).encode()
    check(served.post(large), 413, "body_too_large", "at most 2000000 bytes")
    with (
        openai.OpenAI(base_url=served.base_url, api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(**{**GOOD, **user("x" * 10_000_000)})
    assert caught.value.status_code == 413
    headers = ["-H", "Content-Type: application/json"]
    for more in ([], ["-H", "Expect:"], ["-H", "Expect:", "-H", "Transfer-Encoding: chunked"]):
        command = ["curl", "-sS", f"{served.base_url}/chat/completions", *headers, *more, "--data-binary", "@-"]
        done = subprocess.run(command, input=large, capture_output=True, check=True)
        assert json.loads(done.stdout)["error"]["code"] == "body_too_large"
    assert served.post(GOOD)[0] == 200


def written(body, length=None):
    """A request as its bytes. length: what its header says, where that is not the body's."""
    head = ("POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join((*head, f"Content-Length: {length or len(body)}", "", "")).encode() + body


def half(served, body=b'{"model": "to'):
    """A connection on which half a request was sent."""
    sent = socket.create_connection(served.address, timeout=30)
    sent.sendall(written(body, len(body) + 50))
    return sent


def test_half_a_request_is_given_up_in_time(served, monkeypatch, capfd):
    half(served).close()
    monkeypatch.setattr(door, "_PATIENCE", 0.2)
    with half(served) as sent:
        answer = b"".join(iter(lambda: sent.recv(10_000), b""))  # to the end: it comes in pieces
    assert b"408" in answer.splitlines()[0]
    assert b'"code": "timeout"' in answer
    assert served.post(GOOD)[0] == 200
    assert capfd.readouterr().err == ""


def test_a_strength_beyond_what_the_model_computes_fails_that_request_alone(toy):
    strong = random_module(toy, 5)
    opened = {"z": strong.tensors["z"] * 1e37, "b": strong.tensors["b"] + 1000}  # at every token, beyond float32
    strong = replace(strong, tensors={**strong.tensors, **opened})
    with (
        serving(toy, Registry("toy", {"strong": strong, "mild": random_module(toy, 1)})) as served,
        ThreadPoolExecutor(8) as pool,
    ):
        bodies = [
            {**GOOD, "stream": i % 2 == 1, "steer": [{"module": "strong", "alpha": 90}]}
            if i % 4 < 2
            else {**GOOD, "seed": i, "steer": [{"module": "mild", "alpha": 1}]}
            for i in range(8)
        ]
        for i, answer in enumerate(pool.map(served.post, bodies)):
            if i % 4 < 2:
                check(answer, 400, "no_answer", "not finite numbers.*smaller alpha", "steer")
            else:
                text = answer[2]["choices"][0]["message"]["content"]
                assert text == served.expected(seed=i, sampling=EIGHT, mild=1.0).text


def test_an_answer_that_fails_on_its_way_ends_with_the_error(served):
    lm, forwards = served.engine.lm, []

    def broken(base, args, kwargs):
        forwards.append(1)
        if len(forwards) == 4:
            raise RuntimeError("secret")

    with openai.OpenAI(base_url=served.base_url, api_key="none", max_retries=0) as client:
        handle = lm.base.register_forward_pre_hook(broken, with_kwargs=True)
        try:
            parts = client.chat.completions.create(**GOOD, stream=True)
            with pytest.raises(openai.APIError, match=r"could not answer.*RuntimeError") as caught:
                list(parts)
        finally:
            handle.remove()
    assert "secret" not in str(caught.value)
    assert served.post(GOOD)[0] == 200


def test_an_error_of_the_servers_own_is_one_line(served, monkeypatch, caplog):
    def broken(*args):
        raise ValueError("the text of a request")

    monkeypatch.setattr(api, "encode_chat", broken)
    check(served.post(GOOD), 500, "internal_error", "^the server failed$")
    monkeypatch.undo()
    [said] = caplog.messages
    assert said.startswith("psr: ValueError at ")
    assert "\n" not in said
    assert "the text" not in said
    assert served.post(GOOD)[0] == 200


def test_a_full_queue_says_when_to_come_again_and_serves_those_that_wait(toy, registry):
    with serving(toy, registry, most=2, queue=3) as served, ThreadPoolExecutor(5) as pool:
        with alone(toy.blocks):  # the engine waits for this thread
            held = [pool.submit(served.post, {**GOOD, "seed": i}) for i in range(5)]
            until(lambda: served.engine.running + served.engine.waiting == 5)
            for stream in (False, True):
                answer = served.post({**GOOD, "stream": stream})
                error = check(answer, 429, "rate_limit_exceeded", "too many requests wait, expected at most 3")
                assert error["type"] == "rate_limit_error"
                assert answer[1]["retry-after"] == "1"
            health = served.get("/health")[2]
            assert (health["status"], health["running"] + health["waiting"]) == ("ok", 5)
        for i, one in enumerate(held):
            status, _, body = one.result()
            assert (status, body["choices"][0]["message"]["content"]) == (
                200,
                served.expected(seed=i, sampling=EIGHT).text,
            )


def test_a_key_is_asked_for_where_there_is_one(toy, registry, capfd):
    key = "a-very-secret-key"
    with serving(toy, registry, key=key) as served:
        assert served.get("/health")[0] == 200
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": key},
            {"Authorization": "Bearer \u00ff"},
        ):
            error = check(served.get("/v1/models", **headers), 401, "invalid_api_key", "the key is missing or wrong")
            assert key not in str(error)
            check(served.post(GOOD, **headers), 401, "invalid_api_key", "key")
        with openai.OpenAI(base_url=served.base_url, api_key=key, max_retries=0) as client:
            assert next(iter(client.models.list())).id == "toy"
        assert served.get("/v1/models", Authorization=f"Bearer {key}", Host="server.example")[0] == 200
    assert key not in "".join(capfd.readouterr())


def test_a_module_file_that_changes_while_it_serves_changes_no_answer(toy, tmp_path):
    folder = save_module(random_module(toy, 1), tmp_path / "bold")
    with serving(toy, load_registry(toy, tmp_path, "toy")) as served:
        body = {**GOOD, "model": "toy:bold"}
        before = served.post(body)[2]["choices"]
        weights = folder / "adapter_model.safetensors"
        data = weights.read_bytes()
        weights.write_bytes(data[:200] + b"\0" * (len(data) - 200))  # in place
        assert served.post(body)[2]["choices"] == before
        weights.write_bytes(b"")
        save_module(random_module(toy, 2), folder)
        assert served.post(body)[2]["choices"] == before


def leave(served, stream):
    """Begin a long answer and go away while it is made; returns once the server knows."""
    lm = served.engine.lm
    body = json.dumps({**GOOD, "max_tokens": 240, "stream": stream}).encode()
    with socket.create_connection(served.address, timeout=30) as sent:
        sent.sendall(written(body))
        if stream:
            sent.recv(200)
        else:
            until(lambda: served.engine.running == 1)
        lock = alone(lm.blocks)
        lock.__enter__()
    return lock


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_vanishes_frees_its_row(toy, registry, stream, capfd):
    other = replace(toy)
    other.__dict__["stop_ids"] = ()
    steps = []
    with serving(other, registry, most=1) as served:
        lock = leave(served, stream)
        handle = toy.base.register_forward_hook(lambda *args: steps.append(1))
        try:
            until(lambda: served.engine.open == 0)
        finally:
            lock.__exit__(None, None, None)
        until(lambda: served.engine.running == 0)
        handle.remove()
        assert len(steps) <= 2
        assert served.post(GOOD)[0] == 200
    assert capfd.readouterr().err == ""


def test_a_client_that_vanishes_while_it_waits_is_forgotten(toy, registry):
    with serving(toy, registry, most=1, queue=4) as served, ThreadPoolExecutor(1) as pool:
        with alone(toy.blocks):
            first = pool.submit(served.post, GOOD)
            until(lambda: served.engine.open == 1)
            body = json.dumps(GOOD).encode()
            with socket.create_connection(served.address) as sent:
                sent.sendall(written(body))
                until(lambda: served.engine.open == 2)
            until(lambda: served.engine.open == 1)
        assert first.result()[0] == 200

"""Errors and named weights as the official Python client sees them.

Its arguments are the base URL, a key, and the checks to make, as JSON: what each is given, by its name.
"""

import json
import os
import signal
import sys

import openai

MODEL = "tiny"
CHAT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "the cat sat on the mat"}],
    "temperature": 0,
    "max_completion_tokens": 8,
}
# What the tiny model says to anything at temperature 0 has no end.
ENDLESS = 12_000


def thrown_by(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, error
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def refused(kind, status, call):
    """Checks that rejected requests are not sent again."""
    error = thrown_by(kind, call)
    told = error.response.request.headers["x-stainless-retry-count"]
    assert (error.status_code, told) == (status, "0"), (error, told)
    return error.type, error.code, error.param


def refusals_have_their_class_and_code(client, spent_key):
    ask = client.chat.completions.create
    large = [{"role": "user", "content": "x" * 1024 * 1024}]
    found = refused(openai.APIStatusError, 413, lambda: ask(**{**CHAT, "messages": large}))
    assert found == ("invalid_request_error", "body_too_large", None), found
    spent = client.with_options(api_key=spent_key).chat.completions.create
    found = refused(openai.RateLimitError, 429, lambda: spent(**{**CHAT, "max_completion_tokens": 500}))
    assert found == ("insufficient_quota", "insufficient_quota", None), found
    found = refused(openai.NotFoundError, 404, lambda: ask(**{**CHAT, "model": "tiny@mask-9"}))
    assert found == ("invalid_request_error", "model_not_found", "model"), found


def full_nodes_are_told(client, _):
    ask = client.with_options(max_retries=0).chat.completions.create
    error = thrown_by(openai.RateLimitError, lambda: ask(**CHAT))
    assert (error.status_code, error.type, error.code) == (429, "rate_limit_error", "overloaded"), error
    assert int(error.response.headers["retry-after"]) > 0, error


def no_node_is_told(client, _):
    ask = client.with_options(max_retries=0).chat.completions.create
    error = thrown_by(openai.InternalServerError, lambda: ask(**CHAT))
    assert (error.status_code, error.type, error.code) == (503, "server_error", "no_node_available"), error
    assert int(error.response.headers["retry-after"]) > 0, error


def weights_answer_under_their_names(client, masked):
    assert {model.id for model in client.models.list()} == {MODEL, f"{MODEL}@dense", masked}
    version = masked.removeprefix(f"{MODEL}@mask-")
    for model, made_by in [(MODEL, version), (masked, version), (f"{MODEL}@dense", "0")]:
        answer = client.chat.completions.create(**{**CHAT, "model": model})
        told = (answer.model, answer.system_fingerprint)
        assert told == (MODEL, f"copal-{MODEL}-m{made_by}"), answer


def a_chat_whose_node_dies_throws(client, pids):
    stream = client.chat.completions.with_raw_response.create(**{**CHAT, "max_completion_tokens": ENDLESS}, stream=True)
    throws_when_its_node_dies(stream, pids)


def a_response_whose_node_dies_throws(client, pids):
    ask = {"model": MODEL, "input": "the cat sat on the mat", "temperature": 0, "max_output_tokens": ENDLESS}
    events = throws_when_its_node_dies(client.responses.with_raw_response.create(**ask, stream=True), pids)
    assert events[0].type == "response.created" and events[-1].type == "response.output_text.delta", events[-1]


def throws_when_its_node_dies(raw, pids):
    events = []

    def read():
        for event in raw.parse():
            events.append(event)
            if len(events) == 6:
                os.kill(pids[raw.headers["x-copal-node"]], signal.SIGKILL)

    error = thrown_by(openai.APIError, read)
    assert len(events) >= 6, events
    assert (error.type, error.code, error.param) == ("server_error", "node_failed", None), error
    return events


def main(base_url, api_key, checks):
    with openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=3) as client:
        for name, given in json.loads(checks).items():
            globals()[name](client, given)
            print(f"ok {name}")


main(*sys.argv[1:])

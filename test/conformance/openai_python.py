"""The official Python client against a running service.

Its arguments are the base URL, a key, the admin key and, where answers can be kept to a grammar, "grammars".
"""

import asyncio
import json
import math
import sys
import time
import urllib.request
from typing import Literal

import openai
from pydantic import BaseModel, ConfigDict, Field

MODEL = "tiny"
MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "the cat sat on the mat"},
]
CHAT = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_completion_tokens": 12}
# Takes seconds, so that much can happen before it ends.
LONG = {**CHAT, "max_completion_tokens": 3500, "n": 16, "logit_bias": {"2": -100}}


def chat_streams_what_it_answers(client):
    whole = client.chat.completions.create(**CHAT)
    stream = client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content, text
    # What the engine still has of the prompt may differ.
    told = chunks[-1].usage.model_copy(update={"prompt_tokens_details": whole.usage.prompt_tokens_details})
    assert told == whole.usage, chunks[-1]
    assert whole.system_fingerprint == "copal-tiny-m0", whole


def chat_has_choices_with_log_probabilities(client):
    answer = client.chat.completions.create(
        **{**CHAT, "temperature": 1.5}, n=3, seed=7, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)


def completions_take_several_prompts(client):
    answer = client.completions.create(model=MODEL, prompt=["the cat", "a mat"], max_tokens=4, logprobs=1)
    assert len(answer.choices) == 2, answer


def responses_stream_to_what_they_answer(client):
    ask = {"model": MODEL, "instructions": "be brief", "input": "the cat sat on the mat", "temperature": 0}
    whole = client.responses.create(**ask, max_output_tokens=12)
    with client.responses.stream(**ask, max_output_tokens=12) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text, deltas


def embeddings_have_length_one(client):
    answer = client.embeddings.create(model=MODEL, input=["the cat", "a mat"])
    for item in answer.data:
        assert abs(math.hypot(*item.embedding) - 1) < 1e-4, item


def models_are_listed_with_their_weights(client):
    assert [model.id for model in client.models.list()] == ["tiny", "tiny@dense"]


def errors_have_their_class_and_field(client):
    expect_error(openai.AuthenticationError, lambda: client.with_options(api_key="sk-copal-x").models.list())
    expect_error(openai.NotFoundError, lambda: client.models.retrieve("gpt-9"))
    error = expect_error(openai.BadRequestError, lambda: client.chat.completions.create(**CHAT, n=99))
    assert (error.param, error.code) == ("n", "invalid_request"), error


def expect_error(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


class Admin:
    """Calls that need the admin key."""

    def __init__(self, base_url, key):
        self.origin = base_url.removesuffix("/v1")
        self.headers = {"Authorization": f"Bearer {key}"}

    def create_key(self, **fields):
        return json.loads(self._read("/admin/keys", json.dumps({"name": "conformance", **fields}).encode()))["key"]

    def counted(self, name, **labels):
        """Sums a counter over the lines with all of these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in self._read("/metrics").decode().splitlines() if line.startswith(name + "{")]
        return sum(int(line.split()[-1]) for line in lines if all(label in line for label in wanted))

    def _read(self, path, body=None):
        asked = urllib.request.Request(self.origin + path, body, self.headers)
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return answer.read()


async def comes_to(probe, expected):
    for _ in range(6000):
        if (found := probe()) == expected:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{found} did not come to {expected}")


async def a_cancelled_task_leaves_its_stream(client, admin):
    async def read():
        stream = await client.chat.completions.create(**LONG, stream=True, extra_headers={"x-copal-domain": "python"})
        async for _ in stream:
            begun.set()

    begun = asyncio.Event()
    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    labels = {"model": MODEL, "domain": "python", "outcome": "cancelled"}
    await comes_to(lambda: admin.counted("copal_requests_total", **labels), 1)
    answer = await client.chat.completions.create(**CHAT)
    assert answer.choices, answer


async def a_refused_request_waits_as_long_as_it_is_told_to(client, admin):
    limited = client.with_options(api_key=admin.create_key(limits={"concurrent_requests": 1}))
    holder = await limited.chat.completions.create(**LONG, stream=True)
    begun, ended = [], []

    async def begins(_):
        begun.append(time.monotonic())

    async def ends(response):
        ended.append((response.status_code, time.monotonic()))
        await holder.close()

    # Many retries: the place of the holder may be free only after some of them.
    async with openai.DefaultAsyncHttpxClient(event_hooks={"request": [begins], "response": [ends]}) as http:
        answer = await limited.with_options(max_retries=100, http_client=http).chat.completions.create(**CHAT)
    assert answer.choices, answer
    status, at = ended[0]
    assert status == 429, status
    # Untold, the client makes its second try within a second; the gateway tells it two seconds.
    assert begun[1] - at > 1.99, begun[1] - at


async def in_company(base_url, api_key, admin):
    async with openai.AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0) as client:
        for check in [a_cancelled_task_leaves_its_stream, a_refused_request_waits_as_long_as_it_is_told_to]:
            await check(client, admin)
            print(f"ok {check.__name__}")


class Person(BaseModel):
    """A schema with a finite set of values, so that every output ends."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=8)
    age: int = Field(ge=0, le=150)
    kind: Literal["cat", "dog"]


WEATHER = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 6}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}


def answers_are_parsed_into_their_model(client):
    chat = client.chat.completions.parse(**{**CHAT, "max_completion_tokens": 200}, response_format=Person)
    assert isinstance(chat.choices[0].message.parsed, Person), chat
    response = client.responses.parse(model=MODEL, input="who?", text_format=Person, max_output_tokens=200)
    assert isinstance(response.output_parsed, Person), response


def functions_are_called_and_their_output_goes_back(client):
    ask = {"model": MODEL, "tools": [WEATHER], "temperature": 0, "parallel_tool_calls": False}
    question = [{"role": "user", "content": "how warm?"}]
    with client.responses.stream(**ask, input=question, tool_choice="required", max_output_tokens=200) as stream:
        deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        response = stream.get_final_response()
    [call] = response.output
    assert call.type == "function_call" and call.arguments == "".join(deltas), response
    assert set(json.loads(call.arguments)) == {"city", "unit"}, call
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "12 C"}
    following = client.responses.create(
        **ask, input=[*question, call.to_dict(), output], tool_choice="none", max_output_tokens=5
    )
    assert following.output[0].type == "message", following


def main(base_url, api_key, admin_key, *abilities):
    checks = [
        chat_streams_what_it_answers,
        chat_has_choices_with_log_probabilities,
        completions_take_several_prompts,
        responses_stream_to_what_they_answer,
        embeddings_have_length_one,
        models_are_listed_with_their_weights,
        errors_have_their_class_and_field,
    ]
    if "grammars" in abilities:
        checks += [answers_are_parsed_into_their_model, functions_are_called_and_their_output_goes_back]
    with openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0) as client:
        for check in checks:
            check(client)
            print(f"ok {check.__name__}")
    asyncio.run(in_company(base_url, api_key, Admin(base_url, admin_key)))


main(*sys.argv[1:])

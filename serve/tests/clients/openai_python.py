"""Uses a server through the official package `openai` (pip install openai).

python openai_python.py http://127.0.0.1:8080 KEY LIMITED_KEY

LIMITED_KEY may make 60 requests a minute. Fails at the first difference from what OpenAI's own server would do; prints
how many checks there were. Run by serve/tests/network/clients.rs.
"""

import asyncio
import json
import sys
import time
import urllib.request
from typing import Literal

import openai
import pydantic

url, key, limited = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"failed: {what}")


def fails(error, request, **fields):
    try:
        request()
    except error as raised:
        for name, value in fields.items():
            check(getattr(raised, name) == value, f"{error.__name__}.{name} is {getattr(raised, name)}, not {value}")
        check(raised.message, "an error has a message")
        return
    sys.exit(f"failed: no {error.__name__}")


def ask(path, body=None):
    """Sends a request that the package has no method for."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with opener.open(urllib.request.Request(url + path, data=data, headers=headers)) as answer:
        return json.load(answer)


def running():
    return ask("/health")["requests"]["running"]


# Models.
names = [model.id for model in client.models.list()]
check(names == ["pipeline"], f"models are {names}")
check(client.models.retrieve("pipeline").owned_by == "pipeline", "a model is described")
model = names[0]

# Completions.
settings = dict(model=model, prompt="fn main() {", max_tokens=20, temperature=0.7, seed=3)
whole = client.completions.create(**settings)
check(whole.object == "text_completion" and whole.choices[0].finish_reason in ("length", "stop"), "a completion")
check(whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, "usage adds up")
text, usage = "", None
for chunk in client.completions.create(**settings, stream=True, stream_options={"include_usage": True}):
    text += chunk.choices[0].text if chunk.choices else ""
    usage = chunk.usage or usage
check(text == whole.choices[0].text, f"{text!r} is streamed, not {whole.choices[0].text!r}")
check(usage == whole.usage, f"usage {usage} of the stream")
several = client.completions.create(**{**settings, "prompt": ["a", "b"], "n": 2, "echo": True})
check([choice.text[0] for choice in several.choices] == ["a", "a", "b", "b"], "several prompts and texts, echoed")
tokens = ask("/tokenize", {"prompt": "let x"})["tokens"]
check(client.completions.create(**{**settings, "prompt": tokens}).usage.prompt_tokens == len(tokens), "prompt of tokens")

# Chat.
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "let x"}]
settings = dict(model=model, messages=messages, max_completion_tokens=20, temperature=0.7, seed=3)
whole = client.chat.completions.create(**settings)
check(whole.choices[0].message.role == "assistant", "a message of the assistant")
check(whole._request_id.startswith("req_"), "an id of the request")
named = client.chat.completions.create(**settings, extra_headers={"X-Request-Id": "mine-1"})
check(named._request_id == "mine-1", "the client's own id")
text, roles = "", []
for chunk in client.chat.completions.create(**settings, stream=True):
    roles.append(chunk.choices[0].delta.role)
    text += chunk.choices[0].delta.content or ""
check(text == whole.choices[0].message.content, "the stream is the whole answer")
check(roles[0] == "assistant" and not any(roles[1:]), "the role comes first and once")
parts = [{"role": "user", "content": [{"type": "text", "text": "let "}, {"type": "text", "text": "x"}]}]
check(client.chat.completions.create(**{**settings, "messages": parts}).choices, "a message of parts")

# Log probabilities, whole and streamed.
scored = client.chat.completions.create(**settings, logprobs=True, top_logprobs=2)
scores = scored.choices[0].logprobs.content
check(scores and all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in scores), "log probabilities")
streamed = []
for chunk in client.chat.completions.create(**settings, logprobs=True, top_logprobs=2, stream=True):
    streamed += chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else []
check(streamed == scores, "streamed log probabilities")


# Structured output, through the package's own parser.
class Operation(pydantic.BaseModel):
    kind: Literal["sum", "product"]


longer = {**settings, "max_completion_tokens": 300}
parsed = client.chat.completions.parse(**longer, response_format=Operation).choices[0].message.parsed
check(parsed.kind in ("sum", "product"), "an object of the schema")


# Tools: a call, its result, and a streamed call.
class Add(pydantic.BaseModel):
    a: Literal[1, 2]


tools = [openai.pydantic_function_tool(Add, name="add")]
calling = {**longer, "tools": tools, "tool_choice": "required"}
called = client.chat.completions.parse(**calling).choices[0]
call = called.message.tool_calls[0]
check(called.finish_reason == "tool_calls" and call.function.name == "add", "a call")
check(call.function.parsed_arguments.a in (1, 2), "arguments of the schema")
answered = [*messages, called.message, {"role": "tool", "tool_call_id": call.id, "content": "3"}]
check(client.chat.completions.create(**{**settings, "messages": answered}, tools=tools).choices, "a result of a tool")
with client.chat.completions.stream(**calling) as stream:
    deltas = [event for event in stream if event.type == "tool_calls.function.arguments.delta"]
    again = stream.get_final_completion().choices[0].message.tool_calls[0]
check(again.function.arguments == call.function.arguments, "a streamed call")
check(again.function.parsed_arguments == call.function.parsed_arguments and again.id != call.id, "a call of its own")
pieces = "".join(delta.arguments_delta for delta in deltas)
check(pieces == call.function.arguments, f"{deltas} are the pieces of the arguments")

# Responses.
settings = dict(model=model, instructions="Be brief.", input="let x", max_output_tokens=12, temperature=0)
whole = client.responses.create(**settings)
check(whole.status == "incomplete" and whole.incomplete_details.reason == "max_output_tokens", "a cut-off response")
check(whole.output[0].content[0].type == "output_text" and whole.usage.output_tokens == 12, "a response's text")
with client.responses.stream(**settings) as stream:
    text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
check(text == whole.output_text, f"{text!r} is streamed, not {whole.output_text!r}")

# Responses with tools and formats.
parameters = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["a"],
    "additionalProperties": False,
}
tool = dict(type="function", name="add", description="Adds.", parameters=parameters, strict=True)
settings = dict(model=model, input="let x", max_output_tokens=100, temperature=0, tools=[tool])
settings |= dict(tool_choice="required", store=False)
whole = client.responses.create(**settings)
call = whole.output[0]
check(call.type == "function_call" and call.name == "add" and whole.status == "completed", f"{call} is a call")
check(0 <= json.loads(call.arguments)["a"] <= 9, f"{call.arguments} are arguments")
with client.responses.stream(**settings) as stream:
    events = list(stream)
    streamed = stream.get_final_response().output[0]
check("response.function_call_arguments.done" in [event.type for event in events], f"{events} of a call")
pieces = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
check(pieces == call.arguments, f"{events} have the pieces of the arguments")
check((streamed.name, streamed.arguments) == (call.name, call.arguments), f"{streamed} is streamed, not {call}")
result = dict(type="function_call_output", call_id=call.call_id, output="4")
turns = [dict(role="user", content="let x"), *whole.output, result]
check(client.responses.create(**{**settings, "input": turns, "tool_choice": "auto"}).output, "an answer to a result")
format = dict(type="json_schema", name="n", schema=parameters, strict=True)
whole = client.responses.create(model=model, input="let x", text=dict(format=format), max_output_tokens=100)
check(0 <= json.loads(whole.output_text)["a"] <= 9 and whole.text.format.type == "json_schema", "a format is obeyed")
fails(openai.BadRequestError, lambda: client.responses.create(**{**settings, "store": True}), param="store")
unknown = lambda: client.responses.create(model=model, input="let x", previous_response_id="resp_1")
fails(openai.BadRequestError, unknown, param="previous_response_id")

# Embeddings, which the package asks for in base64 unless told otherwise.
both = client.embeddings.create(model=model, input=["let x", "fn main() {"])
alone = client.embeddings.create(model=model, input="let x", encoding_format="float")
check([item.index for item in both.data] == [0, 1], "an embedding for each input, in order")
check(len(both.data[0].embedding) == len(alone.data[0].embedding), "the width of the model")
distance = max(abs(a - b) for a, b in zip(both.data[0].embedding, alone.data[0].embedding))
check(distance < 1e-7, f"embeddings in base64 and as numbers differ by {distance}")
check(abs(sum(x * x for x in alone.data[0].embedding) - 1) < 1e-5, "an embedding has length 1")
of_tokens = client.embeddings.create(model=model, input=[tokens, tokens], dimensions=len(alone.data[0].embedding))
check(of_tokens.data[0].embedding == both.data[0].embedding, "an embedding of tokens")
check(alone.usage.prompt_tokens == alone.usage.total_tokens == len(tokens), "usage of an embedding")
empty = lambda: client.embeddings.create(model=model, input=["a", ""])
fails(openai.BadRequestError, empty, param="input", type="invalid_request_error")
shorter = lambda: client.embeddings.create(model=model, input="a", dimensions=2)
fails(openai.BadRequestError, shorter, param="dimensions")

# Cancellation: leaving a stream frees its place.
endless = dict(model=model, prompt="fn", max_tokens=900_000, temperature=0, stream=True)
with client.completions.create(**endless) as stream:
    next(iter(stream))
    check(running() == 1, "a text is being generated")
start = time.monotonic()
while running() and time.monotonic() - start < 5:
    time.sleep(0.01)
check(running() == 0, "the place is free")

# Many at once.
async def at_once(n):
    several = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key)
    ask = lambda seed: several.completions.create(model=model, prompt="let y", max_tokens=16, seed=seed)
    return [answer.choices[0].text for answer in await asyncio.gather(*(ask(seed) for seed in range(n)))]


texts = asyncio.run(at_once(8))
alone = [client.completions.create(model=model, prompt="let y", max_tokens=16, seed=seed) for seed in range(8)]
check(texts == [answer.choices[0].text for answer in alone], "texts do not depend on what else runs")

# Errors.
with_key = lambda key, **more: openai.OpenAI(base_url=f"{url}/v1", api_key=key, **more)
fails(openai.AuthenticationError, lambda: with_key("wrong", max_retries=0).models.list(), code="invalid_api_key")
fails(openai.NotFoundError, lambda: client.completions.create(model="gpt-9", prompt="a"), code="model_not_found")
invalid = lambda: client.completions.create(model=model, prompt="a", temperature=9)
fails(openai.BadRequestError, invalid, param="temperature", type="invalid_request_error")

# The limit of a key, and that the client waits as long as it is told.
one = lambda client: client.completions.create(model=model, prompt="a", max_tokens=1)
impatient, patient = with_key(limited, max_retries=0), with_key(limited, max_retries=3)
try:
    for _ in range(200):
        one(impatient)
    sys.exit("failed: the limit is not reached")
except openai.RateLimitError as error:
    check(error.code == "rate_limit_exceeded" and int(error.response.headers["retry-after"]) >= 1, "a stated limit")
start = time.monotonic()
check(one(patient).choices, "an answer after waiting")
check(time.monotonic() - start < 10, "not longer than a few seconds")

print(f"{checks} checks with openai {openai.__version__}")

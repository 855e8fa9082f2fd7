"""Uses a server through LangChain's ChatOpenAI (pip install langchain-openai).

python langchain_chat.py http://127.0.0.1:8080 KEY LIMITED_KEY

LIMITED_KEY may make 60 requests a minute. Fails at the first difference from what OpenAI's own server would do; prints
how many checks there were. Run by serve/tests/network/clients.rs.
"""

import importlib.metadata
import json
import sys
import time
import urllib.request
from typing import Literal

import openai
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

url, key, limited = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"failed: {what}")


def chat(api_key=key, **settings):
    settings = {"max_tokens": 20, "temperature": 0.7, "seed": 3, "max_retries": 0, **settings}
    return ChatOpenAI(base_url=f"{url}/v1", api_key=api_key, model="pipeline", **settings)


def fails(error, request):
    try:
        request()
    except error as raised:
        check(raised.message, "an error has a message")
        return raised
    sys.exit(f"failed: no {error.__name__}")


def running():
    with opener.open(f"{url}/health") as answer:
        return json.load(answer)["requests"]["running"]


messages = [SystemMessage("Be brief."), HumanMessage("let x")]

# Whole, streamed, and several at once.
whole = chat().invoke(messages)
usage = whole.usage_metadata
check(usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], "usage adds up")
check(whole.response_metadata["finish_reason"] in ("length", "stop"), "why it ended")
chunks = list(chat(stream_usage=True).stream(messages))
check("".join(chunk.text for chunk in chunks) == whole.text, "the stream is the whole answer")
added = chunks[0]
for chunk in chunks[1:]:
    added += chunk
check(added.usage_metadata["total_tokens"] == usage["total_tokens"], f"usage of the stream: {added.usage_metadata}")
batch = chat().batch([messages] * 4)
check([answer.text for answer in batch] == [whole.text] * 4, "a batch")

# Log probabilities.
scored = chat(logprobs=True, top_logprobs=2).invoke(messages).response_metadata["logprobs"]["content"]
check(scored and all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in scored), "log probabilities")


# Structured output.
class Operation(BaseModel):
    """An operation."""

    kind: Literal["sum", "product"]


for method in ("json_schema", "function_calling"):
    operation = chat(max_tokens=300).with_structured_output(Operation, method=method, strict=True).invoke(messages)
    check(operation.kind in ("sum", "product"), f"an object by {method}")


# Tools: a call, its result, and a streamed call.
@tool
def add(a: Literal[1, 2]) -> int:
    """Adds one."""
    return a + 1


calling = chat(max_tokens=300).bind_tools([add], tool_choice="required", strict=True)
called = calling.invoke(messages)
call = called.tool_calls[0]
check(call["name"] == "add" and call["args"]["a"] in (1, 2) and not called.invalid_tool_calls, f"a call: {called}")
result = add.invoke(call)
check(isinstance(result, ToolMessage), "a result")
check(chat().bind_tools([add]).invoke([*messages, called, result]).id, "an answer to a result")
added = None
for chunk in calling.stream(messages):
    added = chunk if added is None else added + chunk
check(added.tool_calls[0]["args"] == call["args"], f"a streamed call: {added}")

# Cancellation: leaving a stream frees its place.
# A text that does not end: the most likely token of the tests' random model is always the same.
stream = chat(max_tokens=900_000, temperature=0).bind(logit_bias={"0": -100}).stream(messages)
next(stream)
stream.close()
start = time.monotonic()
while running() and time.monotonic() - start < 5:
    time.sleep(0.01)
check(running() == 0, "the place is free")

# Errors.
fails(openai.AuthenticationError, lambda: chat("wrong").invoke(messages))
error = fails(openai.BadRequestError, lambda: chat(temperature=9).invoke(messages))
check(error.param == "temperature", f"param is {error.param}")
error = fails(openai.BadRequestError, lambda: list(chat(temperature=9).stream(messages)))
check(error.param == "temperature", f"param of a stream is {error.param}")

# The limit of a key, and that the client waits as long as it is told.
impatient, patient = chat(limited, max_tokens=1), chat(limited, max_tokens=1, max_retries=3)
try:
    for _ in range(200):
        impatient.invoke("a")
    sys.exit("failed: the limit is not reached")
except openai.RateLimitError as error:
    check(error.code == "rate_limit_exceeded", "a stated limit")
start = time.monotonic()
check(patient.invoke("a").id, "an answer after waiting")
check(time.monotonic() - start < 10, "not longer than a few seconds")

print(f"{checks} checks with langchain-openai {importlib.metadata.version('langchain-openai')}")

"""Hooks for Schemathesis (pip install schemathesis), which tests a server by its own description:

SCHEMATHESIS_HOOKS=openapi_hooks python -m schemathesis.cli run http://127.0.0.1:8080/openapi.json --checks all

JSON Schema describes each parameter, but not how parameters combine, nor what a grammar or a schema is. Without these
hooks, Schemathesis would report requests as wrongly refused that are refused for such a reason. Negative data, which
must be refused, are not touched. Run by serve/tests/network/clients.rs.
"""

import json

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

SCHEMAS = [
    {"type": "object"},
    {"type": "integer", "minimum": 0, "maximum": 9},
    {"enum": ["a", 1, None]},
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a"]},
    {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
]
REGEXES = ["a+", "(yes|no), [0-9]{3}", "", "[^x]*", r"\p{L}{1,3}"]
GRAMMARS = ['start: "a"', 'start: item+ "."\nitem: /[a-z]{1,3}/', 'start: NUMBER\nNUMBER: /[0-9]+/']
FORMATS = ["response_format", "guided_json", "guided_regex", "guided_grammar"]

schemathesis.openapi.format("json-schema", st.sampled_from([json.dumps(schema) for schema in SCHEMAS]))
schemathesis.openapi.format("regex", st.sampled_from(REGEXES))
schemathesis.openapi.format("lark", st.sampled_from(GRAMMARS))


def schema_for(value):
    """Returns a schema in the place of an object that need not be one."""
    return SCHEMAS[len(json.dumps(value)) % len(SCHEMAS)]


def is_given(body, name):
    return body.get(name) is not None


def combine(body):
    """Makes valid parameters valid together."""
    if not body.get("stream"):
        body.pop("stream_options", None)
    formats = [name for name in FORMATS if is_given(body, name)]
    choice = body.get("tool_choice")
    if choice not in (None, "none", "auto"):
        name = choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else "f"
        name = choice["name"] if isinstance(choice, dict) and "name" in choice else name
        is_flat = "input" in body
        tool = {"name": name} if is_flat else {"function": {"name": name}}
        body["tools"] = [{"type": "function", **tool}]
        for other in formats:
            del body[other]
        body.pop("text", None)
    for other in formats[1:]:
        body.pop(other, None)
    if isinstance(body.get("guided_json"), dict):
        body["guided_json"] = schema_for(body["guided_json"])
    for format in [body.get("response_format"), (body.get("text") or {}).get("format")]:
        named = (format or {}).get("json_schema", format) or {}
        if "schema" in named:
            named["schema"] = schema_for(named["schema"])
    if is_given(body, "max_tokens"):
        body.pop("max_completion_tokens", None)
    if not body.get("logprobs"):
        body.pop("top_logprobs", None)
    if body.get("echo") and is_given(body, "logprobs"):
        body.pop("guidance_scale", None)
    if not is_given(body, "guidance_scale"):
        body.pop("negative_prompt", None)
    prompt, n = body.get("prompt"), body.get("n") or 1
    if isinstance(prompt, list) and not isinstance(prompt[0], int):
        n = body["n"] = 1
        body.pop("best_of", None)
    if is_given(body, "best_of"):
        body["best_of"] = n if body.get("stream") else max(n, body["best_of"])


@schemathesis.hook
def before_call(context, case, kwargs):
    is_positive = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if is_positive and isinstance(case.body, dict):
        combine(case.body)

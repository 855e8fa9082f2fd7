// Uses a server through the official package `openai` (npm install openai).
//
// NODE_PATH=node_modules node openai_node.js http://127.0.0.1:8080 KEY LIMITED_KEY
//
// LIMITED_KEY may make 60 requests a minute. Fails at the first difference from what OpenAI's own server would do;
// prints how many checks there were. Run by serve/tests/network/clients.rs.
"use strict";

const { setTimeout: sleep } = require("node:timers/promises");
const OpenAI = require("openai").default;
const { VERSION } = require("openai/version");

const [url, key, limited] = process.argv.slice(2);
const withKey = (apiKey, maxRetries = 0) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries });
const client = withKey(key);
let checks = 0;

function check(condition, what) {
  checks += 1;
  if (!condition) {
    console.error(`failed: ${what}`);
    process.exit(1);
  }
}

async function fails(kind, request, fields) {
  const raised = await request().then(
    () => null,
    (error) => error,
  );
  check(raised instanceof kind, `${kind.name} is raised, not ${raised}`);
  for (const [name, value] of Object.entries(fields)) {
    check(raised[name] === value, `${kind.name}.${name} is ${raised[name]}, not ${value}`);
  }
  return raised;
}

async function running() {
  const answer = await fetch(`${url}/health`);
  return (await answer.json()).requests.running;
}

async function main() {
  // Models.
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  check(names.length === 1 && names[0] === "pipeline", `models are ${names}`);
  const model = names[0];
  check((await client.models.retrieve(model)).owned_by === "pipeline", "a model is described");

  // Completions.
  const text = { model, prompt: "fn main() {", max_tokens: 20, temperature: 0.7, seed: 3 };
  const completion = await client.completions.create(text);
  check(["length", "stop"].includes(completion.choices[0].finish_reason), "a completion");
  let streamed = "";
  let usage = null;
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.completions.create({ ...text, ...options })) {
    streamed += chunk.choices[0]?.text ?? "";
    usage = chunk.usage ?? usage;
  }
  check(streamed === completion.choices[0].text, `${streamed} is streamed, not ${completion.choices[0].text}`);
  check(JSON.stringify(usage) === JSON.stringify(completion.usage), `usage ${JSON.stringify(usage)} of the stream`);

  // Chat, streamed with the package's own accumulator.
  const messages = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "let x" },
  ];
  const chat = { model, messages, max_completion_tokens: 20, temperature: 0.7, seed: 3 };
  const whole = await client.chat.completions.create(chat);
  check(whole.choices[0].message.role === "assistant", "a message of the assistant");
  const accumulated = await client.chat.completions.stream(chat).finalChatCompletion();
  check(accumulated.choices[0].message.content === whole.choices[0].message.content, "the stream is the whole answer");

  // Log probabilities, whole and streamed.
  const scored = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 2 });
  const tokens = scored.choices[0].logprobs.content;
  check(tokens.length > 0 && tokens.every((token) => token.logprob <= 0), "log probabilities");
  check(tokens.every((token) => token.top_logprobs.length === 2), "alternatives");
  const found = [];
  const scores = { ...chat, logprobs: true, top_logprobs: 2, stream: true };
  for await (const chunk of await client.chat.completions.create(scores)) {
    found.push(...(chunk.choices[0].logprobs?.content ?? []));
  }
  check(JSON.stringify(found) === JSON.stringify(tokens), "streamed log probabilities");

  // Structured output.
  const schema = {
    type: "object",
    properties: { kind: { enum: ["sum", "product"] } },
    required: ["kind"],
    additionalProperties: false,
  };
  const format = { type: "json_schema", json_schema: { name: "operation", strict: true, schema } };
  const structured = await client.chat.completions.create({
    ...chat,
    max_completion_tokens: 300,
    response_format: format,
  });
  check(["sum", "product"].includes(JSON.parse(structured.choices[0].message.content).kind), "an object of the schema");

  // Tools: a call, its result, and a streamed call.
  const parameters = { ...schema, properties: { a: { enum: [1, 2] } }, required: ["a"] };
  const tools = [{ type: "function", function: { name: "add", parameters } }];
  const calling = { ...chat, tools, tool_choice: "required", max_completion_tokens: 300 };
  const called = await client.chat.completions.create(calling);
  const call = called.choices[0].message.tool_calls[0];
  check(called.choices[0].finish_reason === "tool_calls" && call.function.name === "add", "a call");
  check([1, 2].includes(JSON.parse(call.function.arguments).a), "arguments of the schema");
  const result = { role: "tool", tool_call_id: call.id, content: "3" };
  const answered = [...messages, called.choices[0].message, result];
  check((await client.chat.completions.create({ ...chat, messages: answered, tools })).choices, "a result of a tool");
  const streamedCall = await client.chat.completions.stream(calling).finalChatCompletion();
  check(streamedCall.choices[0].message.tool_calls[0].function.arguments === call.function.arguments, "a streamed call");

  // Responses.
  const input = { model, instructions: "Be brief.", input: "let x", max_output_tokens: 12, temperature: 0 };
  const response = await client.responses.create(input);
  check(response.status === "incomplete" && response.output_text.length > 0, "a response that is cut off");
  const final = await client.responses.stream(input).finalResponse();
  check(final.output_text === response.output_text, "a streamed response");

  // Cancellation: leaving a stream, or aborting a request, frees its place.
  const endless = { model, prompt: "fn", max_tokens: 900_000, temperature: 0 };
  const abort = new AbortController();
  const stream = await client.completions.create({ ...endless, stream: true }, { signal: abort.signal });
  for await (const _ of stream) {
    check((await running()) === 1, "a text is being generated");
    abort.abort();
    break;
  }
  await free("of the stream");
  const soon = new AbortController();
  const aborted = client.completions.create(endless, { signal: soon.signal });
  while ((await running()) === 0) await sleep(5);
  soon.abort();
  await fails(OpenAI.APIUserAbortError, () => aborted, {});
  await free("of the request");

  // Many at once.
  const one = (seed) => client.completions.create({ model, prompt: "let y", max_tokens: 16, seed });
  const seeds = [...Array(8).keys()];
  const together = (await Promise.all(seeds.map(one))).map((answer) => answer.choices[0].text);
  const alone = [];
  for (const seed of seeds) alone.push((await one(seed)).choices[0].text);
  check(JSON.stringify(together) === JSON.stringify(alone), "texts do not depend on what else runs");

  // Errors.
  await fails(OpenAI.AuthenticationError, () => withKey("wrong").models.list(), { code: "invalid_api_key" });
  const unknown = { model: "gpt-9", prompt: "a" };
  await fails(OpenAI.NotFoundError, () => client.completions.create(unknown), { code: "model_not_found" });
  const invalid = { param: "temperature", type: "invalid_request_error", status: 400 };
  for (const more of [{}, { stream: true }]) {
    const hot = () => client.chat.completions.create({ ...chat, temperature: 9, ...more });
    await fails(OpenAI.BadRequestError, hot, invalid);
  }

  // The limit of a key, and that the client waits as long as it is told.
  const cheap = { model, prompt: "a", max_tokens: 1 };
  let refused = null;
  for (let i = 0; i < 200 && refused === null; i += 1) {
    refused = await withKey(limited).completions.create(cheap).then(() => null, (error) => error);
  }
  check(refused instanceof OpenAI.RateLimitError && refused.code === "rate_limit_exceeded", `a stated limit: ${refused}`);
  check(Number(refused.headers.get("retry-after")) >= 1, "the time to wait");
  const start = Date.now();
  check((await withKey(limited, 3).completions.create(cheap)).choices, "an answer after waiting");
  check(Date.now() - start < 10_000, "not longer than a few seconds");

  console.log(`${checks} checks with openai-node ${VERSION}`);
}

async function free(what) {
  const start = Date.now();
  while ((await running()) > 0 && Date.now() - start < 5000) await sleep(10);
  check((await running()) === 0, `the place ${what} is free`);
}

main().catch((error) => {
  console.error("failed:", error);
  process.exit(1);
});

// One text at a time: the request, its statistics, and stopping it.
import { $ } from "./dom.js";
import { stream } from "./api.js";
import { tokensOf } from "./insight.js";
import { failed, showError, state, statistic, tokens } from "./status.js";
import { t } from "./i18n.js";

// How long the page takes tokens without letting the browser draw and hear keys.
const TURN_MILLISECONDS = 30;

let controller = null, hasText = false;
const listeners = [];

export const isRunning = () => controller !== null;
export const isWaiting = () => controller !== null && !hasText;
export const stop = () => controller?.abort();
// Calls back whenever a text begins or ends.
export const onRunning = (listener) => listeners.push(listener);

function set(value) {
  controller = value;
  hasText = false;
  for (const listener of listeners) listener(value !== null);
}

// Sends a request and calls `onPart` with each new part of the text and its tokens, which are empty unless the body asks
// for log probabilities, and `onPrompt` with the ids of the prompt's tokens if it asks for ids. Returns how the text ended: `stop`, `length`, `stopped` (by the user) or `failed`.
export async function generate(path, body, maxTokens, onPart, onPrompt) {
  if (controller) return "failed";
  showError("");
  $("done").style.width = "0";
  for (const id of ["speed", "first", "generated", "read"]) statistic(id, "–");
  const own = new AbortController();
  set(own);
  state("busy", "waiting");
  const start = performance.now();
  let first = 0, last = 0, count = 0, turn = start, reason = "stop", usage = null;
  const show = (n) => {
    statistic("generated", n, tokens(n));
    if (last > first) statistic("speed", ((n - 1) / (last - first) * 1000).toFixed(0), t("perSecond"));
  };
  try {
    const request = { ...body, stream: true, stream_options: { include_usage: true } };
    for await (const event of stream(path, request, own.signal)) {
      if (event.usage) usage = event.usage;
      const choice = event.choices[0], promptIds = event.prompt_token_ids ?? choice?.prompt_token_ids;
      if (promptIds) onPrompt(promptIds);
      if (choice?.finish_reason) reason = choice.finish_reason;
      const text = choice?.text ?? choice?.delta?.content;
      if (!text && !choice?.logprobs) continue;
      last = performance.now();
      if (!count) { first = last; hasText = true; state("busy", "generating"); statistic("first", Math.round(first - start), "ms"); }
      const scored = tokensOf(choice);
      count += Math.max(1, scored.length);
      onPart(text ?? "", scored);
      if (last - turn < TURN_MILLISECONDS) continue;
      show(count);
      $("done").style.width = `${Math.min(100, count / maxTokens * 100)}%`;
      await new Promise((resolve) => { setTimeout(resolve); });
      turn = performance.now();
    }
    if (usage) {
      show(usage.completion_tokens);
      statistic("read", usage.prompt_tokens, tokens(usage.prompt_tokens));
    }
    $("done").style.width = "100%";
    state("ready", "ready");
  } catch (error) {
    if (count) show(count);
    if (error.name === "AbortError") { reason = "stopped"; state("ready", "ready"); }
    else { reason = "failed"; failed(error); }
  }
  set(null);
  return reason;
}

// How a text ended, in words.
export const ending = (reason) => ({ length: t("atLimit"), stop: t("atEnd"), stopped: t("stopped") })[reason] ?? "";

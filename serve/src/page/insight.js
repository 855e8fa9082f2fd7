// Tokens that one can point at and choose: with their probabilities, coloured by surprise, or with other figures.
import { $, element } from "./dom.js";
import { onLanguage, t } from "./i18n.js";

// The surprise in bits from which a token has the levels 1 to 4.
const LEVELS = [1, 2, 4, 7];
export const ALTERNATIVES = 5;

const encoder = new TextEncoder();
// A token of a completion that is not UTF-8 by itself is written as its bytes.
const bytesOf = (text) => text.startsWith("bytes:")
  ? Uint8Array.from(text.slice(6).split("\\x").filter(Boolean), (hex) => parseInt(hex, 16)) : encoder.encode(text);

// Returns the tokens of a part of an answer: their bytes, ids, log probabilities and alternatives.
export function tokensOf(choice) {
  const scores = choice?.logprobs, ids = choice?.token_ids ?? [];
  if (scores?.content) {
    return scores.content.map(({ token, bytes, logprob, top_logprobs }, i) => (
      { bytes: Uint8Array.from(bytes ?? encoder.encode(token)), id: ids[i], logprob, top: top_logprobs.map((other) => [other.token, other.logprob]) }));
  }
  return (scores?.tokens ?? []).map((token, i) => (
    { bytes: bytesOf(token), id: ids[i], logprob: scores.token_logprobs[i], top: Object.entries(scores.top_logprobs?.[i] ?? {}) }));
}

export const surprise = (logprob) => Math.max(0, -logprob / Math.LN2);
const level = (logprob) => LEVELS.filter((bits) => surprise(logprob) >= bits).length;
export const percentage = (fraction) => (
  fraction >= 0.9995 ? "100 %" : fraction >= 0.001 ? `${(fraction * 100).toFixed(1)} %` : "<0.1 %");
// Returns a token with its white space made visible.
export const label = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·") || "∅";

// A list of tokens that grows; `node` is its element, `onSpan` is called with each new span of it. A span has its tokens
// in `scores`, of which the first is number `at` of all.
export function tokenList(name, onSpan = () => {}) {
  const node = element("div", { className: "tokens", role: "group", "aria-label": name });
  const decoder = new TextDecoder();
  let waiting = [], count = 0;
  const put = (text) => {
    if (!text) return;
    // A line break gets a mark, without which there would be nothing to point at.
    const lines = text.split("\n").flatMap((line, i) => i ? [element("i", { className: "break" }), "\n", line] : [line]);
    const span = element("span", { className: "token", tabIndex: node.childElementCount ? -1 : 0 }, ...lines);
    Object.assign(span, { scores: waiting, at: count });
    onSpan(span);
    node.append(span);
    count += waiting.length;
    waiting = [];
  };
  const add = (tokens) => {
    for (const token of tokens) {
      waiting.push(token);
      // A character may be spread over several tokens.
      put(decoder.decode(token.bytes, { stream: true }));
    }
  };
  // The last character may be cut off.
  const end = () => {
    const rest = decoder.decode();
    if (waiting.length) put(rest);
    else node.lastChild?.append(rest);
  };
  return { node, add, end };
}

// A list of the tokens of an answer, coloured by surprise. One whose prompt is known can be chosen for its attention.
export function tokenView(owner, isChosen) {
  return tokenList(t("tokenView"), (span) => {
    span.dataset.level = Math.max(...span.scores.map(({ logprob }) => level(logprob ?? 0)));
    if (!owner.promptIds) return;
    span.owner = owner;
    span.setAttribute("role", "button");
    span.setAttribute("aria-pressed", isChosen(owner, span.at, span));
  });
}

// Returns the items of a list of texts with their fractions of a whole.
export const bars = (items) => items.map(({ text, fraction, className = "" }) => {
  const bar = element("i");
  bar.style.width = `${fraction * 100}%`;
  return element("li", { className }, bar, element("code", { textContent: text }), element("span", { textContent: percentage(fraction) }));
});

function show(span) {
  const tip = $("tip"), { logprob, top } = span.scores.at(-1);
  tip.replaceChildren(element("div", {}, element("code", { textContent: label(span.textContent) })));
  if (span.weight !== undefined) {
    tip.append(element("div", { textContent: t("attentionWeight", { weight: percentage(span.weight), n: span.at + 1 }) }));
  } else if (logprob !== null) {
    tip.append(element("div", { textContent: `${percentage(Math.exp(logprob))} ${t("probability")} · ${surprise(logprob).toFixed(1)} ${t("bits")}` }));
    const likely = top.toSorted((a, b) => b[1] - a[1]).slice(0, ALTERNATIVES + 1);
    tip.append(element("ol", { className: "bars" }, ...bars(likely.map(([text, score]) => (
      { text: label(text), fraction: Math.exp(score), className: text === span.textContent ? "chosen" : "" })))));
  }
  tip.hidden = false;
  const place = span.getBoundingClientRect(), size = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(place.left, innerWidth - size.width - 8))}px`;
  tip.style.top = `${place.bottom + size.height + 12 < innerHeight ? place.bottom + 6 : Math.max(8, place.top - size.height - 6)}px`;
}

export const hideTip = () => { $("tip").hidden = true; };
const tokenAt = (event) => event.target instanceof Element ? event.target.closest(".token") : null;

function move(event) {
  const span = tokenAt(event);
  if (!span) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    return span.click();
  }
  const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
  const ends = { Home: "firstElementChild", End: "lastElementChild" }[event.key];
  const next = step ? span[step] : ends ? span.parentElement[ends] : null;
  if (!next) return;
  event.preventDefault();
  span.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// Lets pointers and keys reach the tokens within a node; `onChoose` gets one that is clicked, and whether by a key.
export function watchTokens(node, onChoose) {
  node.addEventListener("pointerover", (event) => { const span = tokenAt(event); if (span) show(span); else hideTip(); });
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("focusin", (event) => {
    const span = tokenAt(event);
    if (!span) return hideTip();
    span.setAttribute("aria-describedby", "tip");
    show(span);
  });
  node.addEventListener("focusout", hideTip);
  node.addEventListener("scroll", hideTip, { passive: true });
  node.addEventListener("keydown", move);
  node.addEventListener("click", (event) => {
    const span = tokenAt(event);
    if (span?.owner) onChoose(span, span, event.detail === 0);
  });
}

onLanguage(() => {
  $("legend").replaceChildren(...["likely", "", "", "", "surprising"].map((word, i) => (
    element("span", { textContent: word ? t(word) : "", data: { level: i } }))));
});

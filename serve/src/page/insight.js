// Tokens with their probabilities: coloured by surprise, with the alternatives where one points at.
import { $, element } from "./dom.js";
import { onLanguage, t } from "./i18n.js";

// The surprise in bits from which a token has the levels 1 to 4.
const LEVELS = [1, 2, 4, 7];
export const ALTERNATIVES = 5;

const encoder = new TextEncoder();
// A token of a completion that is not UTF-8 by itself is written as its bytes.
const bytesOf = (text) => text.startsWith("bytes:")
  ? Uint8Array.from(text.slice(6).split("\\x").filter(Boolean), (hex) => parseInt(hex, 16)) : encoder.encode(text);

// Returns the tokens of a part of an answer: their bytes, log probabilities and alternatives.
export function tokensOf(choice) {
  const scores = choice?.logprobs;
  if (scores?.content) {
    return scores.content.map(({ token, bytes, logprob, top_logprobs }) => (
      { bytes: Uint8Array.from(bytes ?? encoder.encode(token)), logprob, top: top_logprobs.map((other) => [other.token, other.logprob]) }));
  }
  return (scores?.tokens ?? []).map((token, i) => (
    { bytes: bytesOf(token), logprob: scores.token_logprobs[i], top: Object.entries(scores.top_logprobs?.[i] ?? {}) }));
}

export const surprise = (logprob) => Math.max(0, -logprob / Math.LN2);
const level = (logprob) => LEVELS.filter((bits) => surprise(logprob) >= bits).length;
export const percent = (logprob) => {
  const value = Math.exp(logprob) * 100;
  return value >= 99.95 ? "100 %" : value >= 0.1 ? `${value.toFixed(1)} %` : "<0.1 %";
};
const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·") || "∅";

// A view of tokens that grows; `node` is its element.
export function tokenView() {
  const node = element("div", { className: "tokens", role: "group", "aria-label": t("tokenView") });
  const decoder = new TextDecoder();
  let waiting = [];
  const put = (text) => {
    if (!text) return;
    // A line break gets a mark, without which there would be nothing to point at.
    const lines = text.split("\n").flatMap((line, i) => i ? [element("i", { className: "break" }), "\n", line] : [line]);
    const span = element("span", { className: "token", tabIndex: node.childElementCount ? -1 : 0 }, ...lines);
    span.dataset.level = Math.max(...waiting.map(({ logprob }) => level(logprob ?? 0)));
    span.scores = waiting;
    node.append(span);
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

function show(span) {
  const tip = $("tip"), { logprob, top } = span.scores.at(-1);
  tip.replaceChildren(element("div", {}, element("code", { textContent: visible(span.textContent) })));
  if (logprob !== null) {
    tip.append(element("div", { textContent: `${percent(logprob)} ${t("probability")} · ${surprise(logprob).toFixed(1)} ${t("bits")}` }));
    const list = element("ol");
    for (const [text, score] of top.toSorted((a, b) => b[1] - a[1]).slice(0, ALTERNATIVES + 1)) {
      const bar = element("i");
      bar.style.width = `${Math.exp(score) * 100}%`;
      const isChosen = text === span.textContent;
      list.append(element("li", { className: isChosen ? "chosen" : "" }, bar, element("code", { textContent: visible(text) }), element("span", { textContent: percent(score) })));
    }
    tip.append(list);
  }
  tip.hidden = false;
  const place = span.getBoundingClientRect(), size = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(place.left, innerWidth - size.width - 8))}px`;
  tip.style.top = `${place.bottom + size.height + 12 < innerHeight ? place.bottom + 6 : Math.max(8, place.top - size.height - 6)}px`;
}

const hide = () => { $("tip").hidden = true; };
const tokenAt = (event) => event.target instanceof Element ? event.target.closest(".token") : null;

function move(event) {
  const span = tokenAt(event);
  if (!span) return;
  const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
  const ends = { Home: "firstElementChild", End: "lastElementChild" }[event.key];
  const next = step ? span[step] : ends ? span.parentElement[ends] : null;
  if (!next) return;
  event.preventDefault();
  span.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// Lets pointers and keys reach the tokens within a node.
export function watchTokens(node) {
  node.addEventListener("pointerover", (event) => { const span = tokenAt(event); if (span) show(span); else hide(); });
  node.addEventListener("pointerleave", hide);
  node.addEventListener("focusin", (event) => {
    const span = tokenAt(event);
    if (!span) return hide();
    span.setAttribute("aria-describedby", "tip");
    show(span);
  });
  node.addEventListener("focusout", hide);
  node.addEventListener("scroll", hide, { passive: true });
  node.addEventListener("keydown", move);
}

onLanguage(() => {
  $("legend").replaceChildren(...["likely", "", "", "", "surprising"].map((word, i) => (
    element("span", { textContent: word ? t(word) : "", data: { level: i } }))));
});

// Attention: the tokens before a chosen one, shaded by the weight that a layer and a head of the model give them.
import { post } from "./api.js";
import { $, element } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import { bars, hideTip, label, percentage, tokenList, watchTokens } from "./insight.js";

// The weights from which a token has the levels 1 to 4.
const LEVELS = [0.01, 0.03, 0.1, 0.3];
// How many tokens are listed with their weights.
const LISTED = 5;

// `chosen` is the token whose attention is shown, with the tokens before it; `shown` the server's answer.
let chosen = null, shown = null, layer = null, head = "mean", controller = null, view = null;

export function start() {
  watchTokens($("attention-text"));
  $("attention-close").onclick = () => { const { span } = chosen ?? {}; close(); span?.focus(); };
  $("attention").addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); $("attention-close").click(); }
  });
  $("attention-layer").onchange = () => { layer = Number($("attention-layer").value); load(); };
  $("attention-head").onchange = () => { head = $("attention-head").value; draw(); };
  onLanguage(() => { options(); draw(); });
}

// Shows the attention with which the model chose a token of an answer. `owner` has the name of the model, the tokens of
// the answer and the ids of those of its prompt.
export function choose(span, { owner, at }, isByKey) {
  const ids = [...owner.promptIds, ...owner.tokens.slice(0, at).map(({ id }) => id)];
  hideTip();
  mark(false);
  chosen = { span, owner, at, ids, text: span.textContent };
  mark(true);
  const isNew = $("attention").hidden;
  $("attention").hidden = false;
  const loaded = load();
  if (isNew) {
    loaded.then(() => {
      $("attention").scrollIntoView({ block: "nearest" });
      chosen?.span.scrollIntoView({ block: "nearest" });
    });
  }
  if (isByKey) $("attention-layer").focus();
}

// Returns true for the token that is chosen; its element may be a new one.
export function isChosen(owner, at, span) {
  if (chosen?.owner !== owner || chosen.at !== at) return false;
  chosen.span = span;
  return true;
}

export function close() {
  controller?.abort();
  mark(false);
  [chosen, shown, view] = [null, null, null];
  $("attention").hidden = true;
}

const mark = (isOn) => chosen?.span.setAttribute("aria-pressed", isOn);

async function load() {
  controller?.abort();
  const own = controller = new AbortController();
  problem("");
  $("attention").setAttribute("aria-busy", "true");
  try {
    const { owner, ids } = chosen;
    const body = { ...(owner.model && { model: owner.model }), prompt: ids, ...(layer !== null && { layer }) };
    const answer = await post("attention", body, own.signal);
    if (own !== controller) return;
    shown = answer;
    view = tokenList(t("attentionTokens"));
    view.add(shown.tokens.map(({ bytes }) => ({ bytes: Uint8Array.from(bytes) })));
    view.end();
    options();
    draw();
  } catch (error) {
    // One that another choice has replaced, or that was closed.
    if (own.signal.aborted) return;
    // A layer of another model.
    if (error.code === "invalid_value" && layer !== null) { layer = null; load(); return; }
    shown = view = null;
    draw();
    problem(error instanceof TypeError ? t("offlineError") : error.message);
  }
  $("attention").removeAttribute("aria-busy");
}

function problem(text) {
  $("attention-problem").textContent = text;
  $("attention-problem").hidden = !text;
}

// Lists the layers and heads of the model.
function options() {
  const option = (value, textContent) => element("option", { value, textContent });
  const numbers = (count) => Array.from({ length: count }, (_, i) => option(i, t("ofCount", { n: i + 1, count })));
  $("attention-layer").replaceChildren(...numbers(shown?.layers ?? 0));
  $("attention-head").replaceChildren(option("mean", t("meanOfHeads")), ...numbers(shown?.heads ?? 0));
  if (shown) $("attention-layer").value = shown.layer;
  if (head !== "mean" && !(Number(head) < shown?.heads)) head = "mean";
  $("attention-head").value = head;
  $("attention-legend").replaceChildren(...[0, ...LEVELS].map((weight) => `${weight * 100} %`).map((textContent, i) => (
    element("span", { textContent, data: { weight: i } }))));
}

// Returns the weight of each token.
function weights() {
  if (head !== "mean") return shown.weights[head];
  return shown.weights[0].map((_, i) => shown.weights.reduce((sum, row) => sum + row[i], 0) / shown.weights.length);
}

function draw() {
  if (!chosen) return;
  $("attention-about").textContent = t("attentionAbout", { token: label(chosen.text) });
  $("attention-text").replaceChildren(...view ? [view.node] : []);
  $("attention-top").replaceChildren();
  $("attention-top-title").hidden = !view;
  if (!view) { $("attention-summary").textContent = ""; return; }
  view.node.setAttribute("aria-label", t("attentionTokens"));
  const all = weights(), spans = [...view.node.children];
  for (const span of spans) {
    const { at, scores } = span;
    span.weight = all.slice(at, at + scores.length).reduce((sum, weight) => sum + weight, 0);
    span.dataset.weight = LEVELS.filter((least) => span.weight >= least).length;
  }
  const top = spans.toSorted((a, b) => b.weight - a.weight).slice(0, LISTED);
  $("attention-top").replaceChildren(...bars(top.map((span) => ({ text: label(span.textContent), fraction: span.weight }))));
  const where = `${t("layer")} ${t("ofCount", { n: shown.layer + 1, count: shown.layers })}, ${t("head")} ${$("attention-head").selectedOptions[0].textContent}`;
  $("attention-summary").textContent = `${where}: ${top.map((span) => `“${label(span.textContent)}” ${percentage(span.weight)}`).join(", ")}`;
}

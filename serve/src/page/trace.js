// Traces: the passages of a text that occur in the training data, and the documents that have them.
import { post } from "./api.js";
import * as attention from "./attention.js";
import { $, element } from "./dom.js";
import { language, onLanguage, t } from "./i18n.js";

// The tokens of a passage from which it has the levels 1 to 4.
const LEVELS = [1, 12, 24, 48];

// `asked` is the text with its model and what was pressed for it; `shown` the server's answer; `chosen` a passage of it.
let asked = null, shown = null, chosen = 0, controller = null;

export function start() {
  $("trace-close").onclick = () => { const { button } = asked ?? {}; close(); button?.focus(); };
  $("trace").addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); $("trace-close").click(); }
  });
  const choose = (event) => {
    const mark = event.target instanceof Element ? event.target.closest("[data-passage]") : null;
    if (mark) point(Number(mark.dataset.passage));
  };
  for (const event of ["pointerover", "focusin", "click"]) $("trace-text").addEventListener(event, choose);
  $("trace-text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(event);
  });
  onLanguage(draw);
}

// Shows the passages of a text that occur in the training data of a model.
export async function show(text, model, button) {
  attention.close();
  controller?.abort();
  const own = controller = new AbortController();
  [asked, shown, chosen] = [{ text, model, button }, null, 0];
  const isNew = $("trace").hidden;
  $("trace").hidden = false;
  $("trace").setAttribute("aria-busy", "true");
  problem("");
  draw();
  try {
    shown = await post("trace", { ...(model && { model }), input: text }, own.signal);
  } catch (error) {
    // One that another text has replaced, or that was closed.
    if (own.signal.aborted) return;
    problem(error instanceof TypeError ? t("offlineError") : error.message);
  }
  if (own !== controller) return;
  draw();
  $("trace").removeAttribute("aria-busy");
  if (isNew) $("trace").scrollIntoView({ block: "nearest" });
}

export function close() {
  controller?.abort();
  [asked, shown, controller] = [null, null, null];
  $("trace").hidden = true;
}

function problem(text) {
  $("trace-problem").textContent = text;
  $("trace-problem").hidden = !text;
}

// Divides the text where a passage begins or ends; of several, a part belongs to the least likely one.
function parts(text) {
  const characters = [...text], { passages } = shown;
  const places = [...new Set([0, characters.length, ...passages.flatMap(({ start, end }) => [start, end])])].sort((a, b) => a - b);
  return places.slice(1).map((end, i) => {
    const start = places[i];
    const passage = passages.findIndex((other) => other.start <= start && end <= other.end);
    return { text: characters.slice(start, end).join(""), passage };
  });
}

const count = (number, one, many) => t(number === 1 ? one : many, { n: number.toLocaleString(language()) });

function draw() {
  if (!asked) return;
  const passages = shown?.passages ?? [];
  $("trace-about").textContent = !shown ? "" : t(passages.length ? "traceAbout" : "traceNothing", {
    tokens: shown.training_tokens.toLocaleString(language()), documents: shown.training_documents.toLocaleString(language()),
  });
  const seen = new Set();
  $("trace-text").replaceChildren(...(shown ? parts(asked.text) : [{ text: asked.text, passage: -1 }]).map(({ text, passage }) => {
    if (passage < 0) return text;
    const { tokens } = passages[passage], isFirst = !seen.has(passage);
    seen.add(passage);
    // The first part of a passage stands for it.
    return element("span", {
      className: "passage", textContent: text, data: { passage, weight: LEVELS.filter((least) => tokens >= least).length },
      ...(isFirst && { role: "button", tabIndex: 0 }),
    });
  }));
  $("trace-legend").replaceChildren(...LEVELS.map((tokens, i) => (
    element("span", { textContent: i ? `${tokens}+` : t("traceTokens"), data: { weight: i + 1 } }))));
  $("trace-legend").hidden = !passages.length;
  point(chosen);
}

// Lists where a passage occurs.
function point(index) {
  chosen = index;
  const passage = shown?.passages[index];
  for (const mark of $("trace-text").querySelectorAll("[data-passage]")) {
    const isChosen = Number(mark.dataset.passage) === index;
    mark.classList.toggle("chosen", isChosen);
    if (mark.hasAttribute("role")) mark.setAttribute("aria-pressed", isChosen);
  }
  $("trace-where").hidden = !passage;
  if (!passage) { $("trace-count").textContent = ""; $("trace-documents").replaceChildren(); return; }
  $("trace-count").textContent = `${count(passage.tokens, "tokenCount", "tokenCounts")} · ${count(passage.count, "once", "times")}`;
  $("trace-documents").replaceChildren(...passage.documents.map(({ id, piece, source, path, licence, before, after }) => element("li", {},
    element("strong", { textContent: path || id }),
    element("span", { className: "hint", textContent: [path && id !== path ? id : "", piece ? t("piece", { n: piece }) : "", source, licence || t("noLicence")].filter(Boolean).join(" · ") }),
    element("pre", {}, before, element("mark", { textContent: passage.text }), after))));
}

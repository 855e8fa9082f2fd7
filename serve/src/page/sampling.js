// The settings of sampling, and the request that they are part of.
import { $, element, storage } from "./dom.js";
import { onLanguage, t } from "./i18n.js";

const SAVED = "pipeline-sampling";
// Those with `slider` have a slider beside the number; `hint` is the key of a hint.
const FIELDS = [
  { name: "max_tokens", value: 400, min: 1, max: 4096, step: 1, slider: true },
  { name: "temperature", value: 0.8, min: 0, max: 2, step: 0.05, slider: true, hint: "temperatureHint" },
  { name: "top_p", value: 0.95, min: 0.05, max: 1, step: 0.01, slider: true },
  { name: "repetition_penalty", value: 1, min: 0.8, max: 2, step: 0.05, slider: true },
  { name: "top_k", value: 0, min: 0, max: 100000, step: 1, hint: "top_kHint" },
  { name: "seed", value: "", min: 0, max: 2147483647, step: 1, hint: "seedHint" },
];
let listener = () => { /* none yet */ }, own = null;

function make({ name, value, min, max, step, slider, hint }) {
  const number = element("input", { type: "number", id: name, min, max, step: Number.isInteger(step) ? step : "any", value, inputMode: step < 1 ? "decimal" : "numeric" });
  const label = element("label", { for: name, "data-i18n": name, textContent: t(name) });
  const box = element("div", { className: "field" }, element("div", { className: "top" }, label, number));
  if (slider) {
    const range = element("input", { type: "range", id: `${name}-slider`, min, max, step, value, "data-i18n-label": name, "aria-label": t(name) });
    range.oninput = () => { number.value = range.value; changed(); };
    number.addEventListener("input", () => { range.value = number.value; });
    box.append(range);
  }
  if (hint) {
    number.setAttribute("aria-describedby", `${name}-hint`);
    box.append(element("p", { className: "hint", id: `${name}-hint`, "data-i18n": hint, textContent: t(hint) }));
  }
  return box;
}

function put(values) {
  for (const { name, slider } of FIELDS) {
    if (values[name] === undefined) continue;
    $(name).value = values[name];
    if (slider) $(`${name}-slider`).value = values[name];
  }
  if (values.stops !== undefined) $("stops").value = values.stops;
}

const escaped = (text) => text.replace(/[\n\t \\]/g, (c) => ({ "\n": "\\n", "\t": "\\t", " ": "\\s", "\\": "\\\\" })[c]);
const unescaped = (text) => text.replace(/\\([nts\\])/g, (_, c) => ({ n: "\n", t: "\t", s: " ", "\\": "\\" })[c]);
const defaults = () => ({ ...Object.fromEntries(FIELDS.map(({ name, value }) => [name, value])), stops: "" });
const values = () => ({ ...Object.fromEntries(FIELDS.map(({ name }) => [name, $(name).value])), stops: $("stops").value });

function changed() {
  // Those of an application are not kept.
  if (!own) storage.set(SAVED, JSON.stringify(values()));
  listener();
}

// Builds the fields; `onChange` is called whenever one changes.
export function start(onChange) {
  listener = onChange;
  $("fields").append(...FIELDS.map(make));
  try { put(JSON.parse(storage.get(SAVED) ?? "{}")); } catch { /* saved by another version */ }
  $("reset").onclick = () => { put(defaults()); changed(); };
  for (const id of ["fields", "stops"]) $(id).addEventListener("input", changed);
  onLanguage(() => { $("seed").placeholder = t("random"); });
}

// Lowers the maximum of tokens to the server's.
export function limit(maxTokens) {
  const max = Math.min(maxTokens, FIELDS[0].max);
  for (const id of ["max_tokens", "max_tokens-slider"]) $(id).max = max;
  if (Number($("max_tokens").value) > max) put({ max_tokens: max });
}

// Uses the settings of an application until they are restored.
export function use(sampling) {
  own ??= values();
  const stops = (sampling.stop ?? []).map(escaped).join(" ");
  put({ ...defaults(), ...sampling, stops });
  listener();
}
export function restore() {
  if (own) put(own);
  own = null;
  listener();
}

// Returns the parameters of a request.
export function parameters() {
  const body = {};
  for (const { name } of FIELDS) if ($(name).value !== "") body[name] = Number($(name).value);
  const stop = $("stops").value.split(" ").filter(Boolean).map(unescaped);
  if (stop.length) body.stop = stop;
  return body;
}

// Returns what is wrong with the first invalid field, which gets the focus.
export function invalid() {
  const field = FIELDS.find(({ name }) => !$(name).checkValidity());
  if (!field) return "";
  $(field.name).focus();
  return `${t(field.name)}: ${$(field.name).validationMessage}`;
}

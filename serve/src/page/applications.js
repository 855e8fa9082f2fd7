// Applications: forms that become a system prompt and a message, or the prompt of a base model.
import { $, element } from "./dom.js";
import { onLanguage, pick, t } from "./i18n.js";
import * as sampling from "./sampling.js";

const GROUPS = ["writing", "teaching", "support", "code"];
const EXAMPLE_CHARACTERS = 40;

let applications = [], chosen = null, app;

// `page` has `canChat()`, `begin(application)`, called when one is chosen, and `run(filled)`, called with what a form
// became: `system` and `message`, or `prompt`.
export function start(page) {
  app = page;
  $("application-close").onclick = () => close();
  $("application-form").onsubmit = (event) => { event.preventDefault(); submit(); };
  $("application-form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); }
  });
  onLanguage(() => { list(); if (chosen && !$("application").hidden) show(read()); });
}

export function set(found) {
  applications = found;
  list();
}

function list() {
  const groupOf = ({ group }) => GROUPS.includes(group) ? group : "other";
  const nodes = [];
  for (const group of [...GROUPS, "other"]) {
    const own = applications.filter((application) => groupOf(application) === group);
    if (!own.length) continue;
    nodes.push(element("section", {}, element("h2", { textContent: t(group) }), element("ul", { className: "list" }, ...own.map((application) => (
      element("li", {}, element("button", {
        type: "button", className: "item", textContent: pick(application.name), title: pick(application.description),
        "aria-current": String(application === chosen), onclick: () => choose(application),
      })))))));
  }
  $("applications").replaceChildren(...nodes);
}

export function choose(application) {
  chosen = application;
  sampling.use(application.sampling);
  list();
  show({});
  app.begin(application);
  $("application-form").querySelector("input, textarea, select")?.focus();
}

// Leaves the application; the settings of sampling are the user's again.
export function close() {
  if (!chosen) return;
  chosen = null;
  sampling.restore();
  collapse();
  list();
}

// Hides the form while its conversation goes on.
export function collapse() {
  $("application").hidden = true;
  $("application").classList.remove("open");
}

const control = (name) => $(`field-${name}`);
// Returns what the form holds: texts, and the numbers of choices, which have other words in other languages.
const read = () => Object.fromEntries(chosen.fields.map(({ name, kind }) => (
  [name, kind === "choice" ? control(name).selectedIndex : control(name).value])));

function show(values) {
  $("application").hidden = false;
  // In place of an empty conversation.
  $("application").classList.toggle("open", app.canChat());
  $("application-name").textContent = pick(chosen.name);
  $("application-description").textContent = pick(chosen.description);
  const fields = chosen.fields.map((field) => {
    const id = `field-${field.name}`, value = values[field.name];
    const input = field.kind === "choice"
      ? element("select", { id }, ...field.choices.map((choice) => element("option", { textContent: pick(choice) })))
      : element(field.kind === "textarea" ? "textarea" : "input", { id, ...field.kind === "text" && { type: "text" }, value: value ?? pick(field.default ?? "") });
    if (field.kind === "choice") input.selectedIndex = value ?? 0;
    return element("div", { className: field.kind === "textarea" ? "long" : "" }, element("label", { for: id, textContent: pick(field.label) }), input);
  });
  const run = element("button", { type: "submit", className: "primary", textContent: t("run") });
  $("application-form").replaceChildren(...fields, element("div", { className: "actions" }, run));
  $("application-examples").replaceChildren(...chosen.examples.map((example) => {
    const shown = chosen.fields.find(({ name }) => example[name] !== undefined)?.name;
    const first = pick(example[shown]).trim().split("\n")[0];
    const label = first.length > EXAMPLE_CHARACTERS ? `${first.slice(0, EXAMPLE_CHARACTERS)}…` : first;
    return element("button", { type: "button", className: "chip", textContent: label, title: t("useExample"), onclick: () => useExample(example) });
  }));
}

function useExample(example) {
  for (const { name, kind, choices } of chosen.fields) {
    if (example[name] === undefined) continue;
    if (kind === "choice") control(name).selectedIndex = choices.findIndex((choice) => pick(choice) === pick(example[name]));
    else control(name).value = pick(example[name]);
  }
}

// Replaces `{name}` by what was typed into that field. What was typed is not read as a template.
export const fill = (template, values) => template.replace(/\{([a-z][a-z0-9_]*)\}/g, (whole, name) => values[name] ?? whole);

function submit() {
  const typed = read();
  const values = Object.fromEntries(chosen.fields.map(({ name, kind, choices }) => (
    [name, kind === "choice" ? pick(choices[typed[name]]) : typed[name].trim()])));
  const empty = chosen.fields.find(({ name, optional }) => !optional && !values[name]);
  if (empty) {
    control(empty.name).focus();
    return app.refuse(() => t("fillIn", { field: pick(empty.label) }));
  }
  const message = fill(pick(chosen.template), values);
  if (app.canChat()) app.run({ id: chosen.id, name: pick(chosen.name), system: fill(pick(chosen.system), values), message });
  else app.run({ prompt: chosen.completion ? fill(pick(chosen.completion), values) : message });
}

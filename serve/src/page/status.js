// What the page says about the server and the text that is being generated.
import { $, element } from "./dom.js";
import { key } from "./api.js";
import { onLanguage, t } from "./i18n.js";

let current = { name: "wait", word: "connectingState", values: {} };
let problem = () => "";

export function state(name, word, values = {}) {
  current = { name, word, values };
  $("state").dataset.state = name;
  $("state").textContent = t(word, values);
}

// Shows an error: the server's words, or a function that returns those of the page.
export function showError(message) {
  problem = typeof message === "function" ? message : () => message;
  $("error").textContent = problem();
  $("error").hidden = !problem();
}

// Shows why a request failed. Without a valid key, the field for it gets the focus.
export function failed(error) {
  if (error.status === 401) return askForKey();
  const isOffline = error instanceof TypeError;
  showError(isOffline ? () => t("offlineError") : error.message);
  state("bad", isOffline ? "offline" : "failed");
}

export function askForKey() {
  const word = key() ? "wrongKey" : "unauthorized";
  $("key-box").hidden = false;
  showPanel("settings", true);
  showError(() => t(word));
  state("bad", "needsKey");
  $("key").setAttribute("aria-invalid", "true");
  $("key").focus();
}

// Shows or hides a panel, which narrow windows hide.
export function showPanel(id, isShown) {
  $(id).classList.toggle("shown", isShown);
  $(`show-${id}`).setAttribute("aria-expanded", isShown);
}

export function statistic(id, value, unit = "") {
  $(id).replaceChildren(String(value), ...unit ? [element("small", { textContent: ` ${unit}` })] : []);
}

export const tokens = (n) => t(n === 1 ? "token" : "tokens");

onLanguage(() => {
  state(current.name, current.word, current.values);
  showError(problem);
});

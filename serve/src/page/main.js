// The page: what is shown, which model answers, and what stays when it is loaded again.
import { key, read, setKey } from "./api.js";
import * as applications from "./applications.js";
import * as attention from "./attention.js";
import * as chat from "./chat.js";
import * as completion from "./completion.js";
import { $, copy, element, storage } from "./dom.js";
import { isRunning, isWaiting, onRunning, stop } from "./generation.js";
import * as history from "./history.js";
import { language, onLanguage, setLanguage, t, translate } from "./i18n.js";
import { ALTERNATIVES } from "./insight.js";
import * as sampling from "./sampling.js";
import { askForKey, failed, showError, showPanel, state } from "./status.js";
import * as trace from "./trace.js";

const PAGE = "pipeline-page", SCHEME = "pipeline-scheme";
const HEALTH_MILLISECONDS = 3000;

// What the server says about itself, and what the user has chosen.
let server = { example_prompts: [], needs_key: false, max_tokens: 4096, max_logprobs: 0 };
let models = [], facts = [], chosen = "", mode = "chat", hasMode = false;

const described = () => facts.find(({ id }) => id === (models.find((entry) => entry.id === chosen)?.root ?? chosen)) ?? facts.find(({ id }) => id === chosen) ?? facts[0];
const page = {
  model: () => chosen ? { model: chosen } : {},
  canChat: () => described()?.chat ?? true,
  // Whether texts of a model can be found in its training data.
  canTrace: (model = chosen) => (facts.find(({ id }) => id === model) ?? described())?.trace ?? false,
  showsScores: () => $("insight").checked,
  scores(kind) {
    const alternatives = Math.min(ALTERNATIVES, server.max_logprobs);
    if (!$("insight").checked) return {};
    const logprobs = kind === "chat" ? { logprobs: true, top_logprobs: alternatives } : { logprobs: alternatives };
    return { ...logprobs, return_token_ids: true };
  },
  exists: ({ id }) => history.all().some((other) => other.id === id),
  changed: listHistory,
  edited,
  refuse: showError,
  begin() {
    showError("");
    if (page.canChat()) { chat.open(); show("chat"); }
    showPanel("side", false);
    listHistory();
  },
  run(filled) {
    if (isRunning()) return;
    showError("");
    if (filled.prompt !== undefined) {
      $("prompt").value = filled.prompt;
      edited();
      completion.run();
      return;
    }
    chat.open({ ...history.blank(), application: filled.id, system: filled.system });
    applications.collapse();
    $("message").focus();
    chat.ask(filled.message);
  },
};

// Shows the chat or the completion.
function show(name) {
  if (mode !== name) { attention.close(); trace.close(); }
  mode = name;
  for (const other of ["chat", "completion"]) {
    const tab = $(`tab-${other}`), isShown = other === name;
    tab.setAttribute("aria-selected", isShown);
    tab.tabIndex = isShown ? 0 : -1;
    $(other).hidden = !isShown;
  }
  edited();
}

// Called when something changed that the next request, or the next visit, depends on.
function edited() {
  const [path, body] = mode === "chat" ? ["v1/chat/completions", { ...chat.request(), ...page.scores("chat") }] : ["v1/completions", { ...completion.request(), ...page.scores("completion") }];
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  const authorization = server.needs_key ? "\n  -H \"Authorization: Bearer $KEY\" \\" : "";
  $("curl").textContent = `curl ${new URL(path, location.href)} \\${authorization}\n  -H 'Content-Type: application/json' \\\n  -d '${json}'`;
  storage.set(PAGE, JSON.stringify({ mode: hasMode ? mode : undefined, prompt: $("prompt").value, insight: $("insight").checked, model: chosen, conversation: chat.current().id }));
}

function listHistory() {
  const conversations = history.all();
  $("history").replaceChildren(...conversations.map((conversation) => {
    const title = conversation.title || t("untitled");
    const open = element("button", {
      type: "button", className: "item", textContent: title, title,
      "aria-current": String(conversation.id === chat.current().id), onclick: () => openConversation(conversation),
    });
    const remove = element("button", { type: "button", className: "remove", textContent: "✕", "aria-label": `${t("remove")}: ${title}` });
    remove.onclick = () => sure(remove, () => forget([conversation]));
    return element("li", {}, open, remove);
  }));
  $("history-tools").hidden = !conversations.length;
}

function openConversation(conversation) {
  applications.close();
  // The one on the screen may be newer than what is stored.
  if (conversation.id !== chat.current().id) chat.open(conversation);
  hasMode = true;
  show("chat");
  showPanel("side", false);
  listHistory();
}

// The second press within a few seconds deletes.
function sure(button, action) {
  if (button.dataset.sure) return action();
  const label = button.textContent;
  button.dataset.sure = "true";
  button.textContent = t("sure");
  setTimeout(() => { delete button.dataset.sure; button.textContent = label; }, 3000);
}

function forget(conversations) {
  const isOpen = conversations.some(({ id }) => id === chat.current().id);
  if (isOpen) stop();
  for (const { id } of conversations) history.remove(id);
  if (isOpen) chat.open();
  listHistory();
  $("new").focus();
}

function newConversation() {
  applications.close();
  chat.open();
  if (page.canChat()) { hasMode = true; show("chat"); }
  showPanel("side", false);
  listHistory();
  (mode === "chat" ? $("message") : $("prompt")).focus();
}

const short = (n) => n >= 1e9 ? `${(n / 1e9).toFixed(1)}B` : n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : n >= 1e3 ? `${(n / 1e3).toFixed(0)}K` : n;

// A configuration with example prompts is of a model that continues texts.
const preferred = () => server.example_prompts.length ? "completion" : "chat";

// Shows the chosen model, and whether one can talk to it.
function showModel() {
  const fact = described();
  $("model").textContent = chosen || fact?.id || "pipeline";
  document.title = $("model").textContent;
  $("facts").textContent = fact ? t("facts", { parameters: short(fact.parameters), family: fact.family, context: fact.context_length.toLocaleString(language()), device: fact.device }) : t("connecting");
  const ids = models.map(({ id }) => id);
  if ([...$("models").options].map(({ value }) => value).join("\n") !== ids.join("\n")) {
    $("models").replaceChildren(...ids.map((id) => element("option", { value: id, textContent: id })));
  }
  $("models").value = chosen;
  $("models").hidden = ids.length < 2;
  $("model").classList.toggle("spoken", ids.length > 1);
  const canChat = page.canChat();
  $("no-chat").hidden = canChat;
  $("tab-chat").disabled = !canChat;
  chat.enable(canChat);
  $("find").hidden = !page.canTrace();
  if (!canChat && mode === "chat") show("completion");
  else if (canChat && !hasMode) show(preferred());
}

function choose(id) {
  chosen = id;
  showModel();
  chat.render();
  edited();
}

// Reads what needs a key, if there is one.
async function open() {
  if (server.needs_key && !key()) { $("key-box").hidden = false; state("bad", "needsKey"); return; }
  try {
    const [list, found] = await Promise.all([read("v1/models"), read("applications")]);
    models = list.data;
    applications.set(found.data);
    $("key").removeAttribute("aria-invalid");
    if (!models.some(({ id }) => id === chosen)) chosen = models[0]?.id ?? "";
    choose(chosen);
  } catch (error) { failed(error); }
}

async function health() {
  try {
    const answer = await read("health");
    const before = JSON.stringify(facts);
    facts = answer.models;
    if (JSON.stringify(facts) !== before) await open();
    if (isRunning()) { if (isWaiting() && answer.requests.waiting) state("busy", "queue", { n: answer.requests.waiting }); }
    else if (answer.status !== "ok") state("bad", answer.status);
    else if (server.needs_key && !models.length) state("bad", "needsKey");
    else if (answer.requests.running) state("busy", "busy");
    else state("ready", "ready");
  } catch { if (!isRunning()) state("bad", "offline"); }
}

function saved() {
  try { return JSON.parse(storage.get(PAGE) ?? "{}"); } catch { return {}; }
}

async function start() {
  translate();
  const scheme = (name) => { document.documentElement.style.colorScheme = name; };
  if (["light", "dark"].includes(storage.get(SCHEME))) scheme(storage.get(SCHEME));
  sampling.start(edited);
  chat.start(page);
  completion.start(page);
  applications.start(page);
  attention.start();
  trace.start();
  const before = saved();
  $("prompt").value = before.prompt ?? "";
  $("insight").checked = before.insight === true;
  $("legend").hidden = !$("insight").checked;
  chosen = before.model ?? "";
  hasMode = before.mode === "chat" || before.mode === "completion";
  const conversation = history.all().find(({ id }) => id === before.conversation);
  if (conversation) chat.open(conversation);
  show(hasMode ? before.mode : "chat");
  listHistory();

  document.addEventListener("input", edited);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && mode === "completion" && !event.defaultPrevented) { event.preventDefault(); completion.run(); }
    if (event.key === "Escape") stop();
  });
  onRunning((isOn) => {
    // The focus stays where it can send or stop.
    const hadFocus = document.activeElement === $("send") || document.activeElement === $("chat-stop");
    $("send").hidden = isOn;
    $("chat-stop").hidden = !isOn;
    if (hadFocus) $(isOn ? "chat-stop" : "message").focus();
  });
  for (const name of ["chat", "completion"]) $(`tab-${name}`).onclick = () => { hasMode = true; applications.close(); show(name); };
  document.querySelector(".tabs").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = $(mode === "chat" ? "tab-completion" : "tab-chat");
    if (!other.disabled) { other.click(); other.focus(); }
  });
  for (const id of ["side", "settings"]) $(`show-${id}`).onclick = () => showPanel(id, !$(id).classList.contains("shown"));
  $("models").onchange = () => choose($("models").value);
  $("new").onclick = newConversation;
  $("export").onclick = () => history.download(history.all(), "conversations.jsonl");
  $("clear").onclick = () => sure($("clear"), () => forget(history.all()));
  $("copy-curl").onclick = () => copy($("copy-curl"), $("curl").textContent, t("copied"), t("refused"));
  $("insight").onchange = () => {
    $("legend").hidden = !$("insight").checked;
    attention.close();
    chat.render();
  };
  $("key").value = key();
  const enter = () => {
    if ($("key").value.trim() === key()) return;
    setKey($("key").value);
    showError("");
    open().then(health);
  };
  $("key").onchange = enter;
  $("key-box").onsubmit = (event) => { event.preventDefault(); enter(); };
  $("language").onclick = () => setLanguage(language() === "en" ? "zh" : "en");
  $("theme").onclick = () => {
    const name = document.documentElement.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    scheme(name === "dark" ? "light" : "dark");
    storage.set(SCHEME, document.documentElement.style.colorScheme);
  };
  if (/Mac|iPhone|iPad/.test(navigator.platform)) $("key-hint").textContent = "⌘ ↵";
  $("base").textContent = new URL("v1", location.href).href;
  onLanguage(() => {
    const isEnglish = language() === "en";
    Object.assign($("language"), { textContent: isEnglish ? "中" : "EN", lang: isEnglish ? "zh" : "en", ariaLabel: isEnglish ? "切换到中文" : "Switch to English" });
    showModel();
    listHistory();
  });

  try {
    server = await read("page/settings.json");
    $("key-box").hidden = !server.needs_key;
    sampling.limit(server.max_tokens);
    completion.examples(server.example_prompts);
    if (before.prompt === undefined) $("prompt").value = server.example_prompts[0] ?? "";
    if (!hasMode) show(preferred());
    if (server.needs_key && !key()) askForKey();
  } catch (error) { failed(error); }
  await health();
  edited();
  setInterval(() => { if (!document.hidden) health(); }, HEALTH_MILLISECONDS);
}

start();

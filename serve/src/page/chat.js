// The conversation on the screen: messages, streamed answers, editing and regenerating.
import * as attention from "./attention.js";
import { $, copy, element, speaker } from "./dom.js";
import { ending, generate, isRunning, stop } from "./generation.js";
import * as history from "./history.js";
import { onLanguage, t } from "./i18n.js";
import { tokenView, watchTokens } from "./insight.js";
import { markdown } from "./markdown.js";
import * as sampling from "./sampling.js";
import { showError } from "./status.js";
import * as trace from "./trace.js";

// How often a streamed answer is drawn, at most; a long one takes its time and is drawn less often.
const DRAW_MILLISECONDS = 60, DRAW_FACTOR = 4;

let conversation = history.blank(), editing = -1, app, drawing = null;

// `page` has the model and what else a request needs: `model()`, `canChat()`, `scores()` (the parameters that ask for log
// probabilities), `showsScores()`, `canTrace()`, and `changed()`, called when the history has changed.
export function start(page) {
  app = page;
  watchTokens($("messages"), attention.choose);
  $("composer").onsubmit = (event) => { event.preventDefault(); submit(); };
  $("chat-stop").onclick = stop;
  $("message").addEventListener("keydown", (event) => {
    // Enter ends the composition of a Chinese or Japanese word, too.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
  });
  $("system").oninput = () => { conversation.system = $("system").value; if (conversation.messages.length) keep(); };
  onLanguage(() => render());
}

export const current = () => conversation;
export const isEmpty = () => conversation.messages.length === 0;

// Shows a conversation; without one, a new one.
export function open(chosen = history.blank()) {
  stop();
  attention.close();
  trace.close();
  conversation = chosen;
  editing = -1;
  $("system").value = conversation.system;
  $("system-box").open = Boolean(conversation.system);
  render();
}

export function enable(canChat) {
  for (const id of ["message", "send", "system"]) $(id).disabled = !canChat;
}

// Returns the request for an answer to the conversation and a message.
export function request(text = $("message").value) {
  const pending = text.trim() ? [{ role: "user", content: text }] : [];
  const { max_tokens, ...rest } = sampling.parameters();
  const messages = [...history.messages(conversation), ...pending];
  return { ...app.model(), messages, ...(max_tokens && { max_completion_tokens: max_tokens }), ...rest };
}

function submit() {
  const text = $("message").value;
  if (!text.trim() || isRunning()) return;
  $("message").value = "";
  ask(text);
}

// Sends a message and shows its answer.
export async function ask(text) {
  conversation.messages.push({ role: "user", content: text });
  await answer();
}

function keep() {
  if (!history.save(conversation)) showError(() => t("full"));
  app.changed();
}

async function answer() {
  const wrong = sampling.invalid();
  if (isRunning()) return;
  if (wrong) { render(); showError(wrong); return; }
  const body = { ...request(""), ...app.scores("chat") };
  const own = conversation, message = { role: "assistant", content: "", tokens: [], model: body.model };
  own.messages.push(message);
  attention.close();
  trace.close();
  editing = -1;
  render();
  keep();
  const view = views.get(message), words = speaker($("spoken"));
  let interval = DRAW_MILLISECONDS;
  view.node.classList.add("generating");
  message.reason = await generate("v1/chat/completions", body, body.max_completion_tokens ?? Infinity, (text, tokens) => {
    message.content += text;
    message.tokens.push(...tokens);
    words.add(text);
    view.tokens?.add(tokens);
    drawing ??= setTimeout(() => {
      const start = performance.now();
      view.draw();
      follow();
      drawing = null;
      interval = Math.max(DRAW_MILLISECONDS, DRAW_FACTOR * (performance.now() - start));
    }, interval);
  }, (ids) => { message.promptIds = ids; });
  clearTimeout(drawing);
  drawing = null;
  words.end();
  if (message.reason === "failed" && !message.content) own.messages.splice(own.messages.indexOf(message), 1);
  // It may have been deleted while the answer was written.
  if (own === conversation) { keep(); render(); } else if (app.exists(own)) { history.save(own); app.changed(); }
}

function regenerate(index) {
  if (isRunning()) return;
  conversation.messages.splice(index);
  answer();
}

function edit(index, text) {
  if (isRunning() || !text.trim()) return;
  conversation.messages.splice(index);
  ask(text);
}

// What is drawn of each message.
let views = new Map();
const button = (key, onclick) => element("button", { type: "button", className: "link", textContent: t(key), onclick });
const copyButton = (text) => element("button", {
  type: "button", className: "link", textContent: t("copy"), onclick: (event) => copy(event.target, text, t("copied"), t("refused")),
});

function render() {
  if (!app) return;
  views = new Map();
  const list = $("messages"), wasAtEnd = isAtEnd(list);
  list.replaceChildren(...conversation.messages.map(messageNode));
  if (!conversation.messages.length) list.append(element("p", { className: "empty", textContent: app.canChat() ? t("empty") : t("noChat") }));
  if (wasAtEnd) list.scrollTop = list.scrollHeight;
}
export { render };

const isAtEnd = (list) => list.scrollHeight - list.scrollTop - list.clientHeight < 60;
function follow() {
  const list = $("messages");
  if (isAtEnd(list) || list.scrollHeight - list.scrollTop - list.clientHeight < 240) list.scrollTop = list.scrollHeight;
}

function messageNode(message, index) {
  const isUser = message.role === "user", isLast = index === conversation.messages.length - 1;
  const who = t(isUser ? "you" : "assistant");
  const tools = element("div", { className: "tools" });
  const node = element("article", { className: `message ${message.role}`, "aria-label": who }, element("div", { className: "who", textContent: who }));
  if (isUser && editing === index) {
    const box = element("textarea", { value: message.content, "aria-label": t("message") });
    const leave = () => { editing = -1; render(); };
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); edit(index, box.value); }
      if (event.key === "Escape") { event.stopPropagation(); leave(); }
    });
    tools.append(button("send", () => edit(index, box.value)), button("cancel", leave));
    queueMicrotask(() => box.focus());
    node.append(box, tools);
    return node;
  }
  const content = element("div", { className: "content" });
  const view = { node, tokens: null, draw: () => drawContent(view, content, message) };
  views.set(message, view);
  view.draw();
  if (isUser) {
    tools.append(button("edit", () => { if (!isRunning()) { editing = index; render(); } }));
    if (isLast) tools.append(button("regenerate", () => regenerate(index + 1)));
  } else if (message.reason) {
    tools.append(copyButton(message.content), button("regenerate", () => regenerate(index)));
    if (app.canTrace(message.model) && message.content) tools.append(button("trace", (event) => trace.show(message.content, message.model, event.target)));
    if (message.reason !== "stop") tools.append(element("span", { className: "note", textContent: ending(message.reason) }));
  }
  node.append(content, tools);
  return node;
}

function drawContent(view, content, message) {
  if (message.role === "user") {
    content.textContent = message.content;
  } else if (app.showsScores() && (message.tokens?.length || !message.reason)) {
    if (view.tokens) return;
    view.tokens = tokenView(message, attention.isChosen);
    view.tokens.add(message.tokens);
    if (message.reason) view.tokens.end();
    content.replaceChildren(view.tokens.node);
  } else {
    content.className = "content markdown";
    content.replaceChildren(...answerNodes(message));
  }
}

// What a reasoning model thinks before it answers can be opened.
function answerNodes({ content, reason }) {
  const [, thought, rest] = /^\s*<think>([\s\S]*?)(?:<\/think>([\s\S]*)|$)/.exec(content) ?? [];
  if (thought === undefined) return markdown(content, copyButton);
  const box = element("details", { className: "reasoning", open: rest === undefined && !reason }, element("summary", { textContent: t("reasoning") }), thought.trim());
  return [...thought.trim() ? [box] : [], ...markdown(rest ?? "", copyButton)];
}

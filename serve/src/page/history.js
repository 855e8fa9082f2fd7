// Conversations, kept in the browser: one entry of its storage for each.
import { element, storage } from "./dom.js";

const PREFIX = "pipeline-conversation-";
const TITLE_CHARACTERS = 48;

// Returns a conversation without messages.
export function blank() {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, title: "", created: new Date().toISOString(), updated: "", application: null, system: "", messages: [] };
}

const isMessage = (m) => typeof m?.content === "string" && (m.role === "user" || m.role === "assistant");
function parse(text) {
  try {
    const found = JSON.parse(text);
    return Array.isArray(found?.messages) && found.messages.every(isMessage) ? { ...blank(), ...found } : null;
  } catch { return null; }
}

// Returns all conversations, the latest first.
export function all() {
  const found = storage.keys().filter((key) => key.startsWith(PREFIX)).map((key) => parse(storage.get(key)));
  return found.filter(Boolean).sort((a, b) => b.updated.localeCompare(a.updated));
}

// Keeps a conversation. Returns false if there is no room for it.
export function save(conversation) {
  const first = conversation.messages.find((message) => message.role === "user")?.content ?? "";
  const line = [...first.replace(/\s+/g, " ").trim()];
  conversation.title ||= line.length > TITLE_CHARACTERS ? `${line.slice(0, TITLE_CHARACTERS).join("")}…` : line.join("");
  conversation.updated = new Date().toISOString();
  // An answer that is being written has no reason yet; without it, its message can be answered after a reload.
  const complete = conversation.messages.filter(({ role, reason }) => role === "user" || reason);
  const messages = complete.map(({ role, content, reason }) => ({ role, content, ...(reason && { reason }) }));
  return storage.set(PREFIX + conversation.id, JSON.stringify({ ...conversation, messages }));
}

export const remove = (id) => storage.remove(PREFIX + id);

// Returns the messages as a model reads them.
export const messages = ({ system, messages: list }) => [
  ...(system.trim() ? [{ role: "system", content: system }] : []),
  ...list.map(({ role, content }) => ({ role, content })),
];

// Downloads conversations as lines of JSON, which `pipeline generate --prompts` and `/load` of `pipeline chat` read.
export function download(conversations, name) {
  const lines = conversations.map((conversation) => `${JSON.stringify({ messages: messages(conversation) })}\n`);
  const href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

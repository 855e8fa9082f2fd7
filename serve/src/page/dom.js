// The document: every node is made here or in markdown.js, from text, never from HTML.

export const $ = (id) => document.getElementById(id);

// Returns an element with these properties (`data` and names with a dash are attributes) and children.
export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (key === "data") Object.assign(node.dataset, value);
    else if (key.includes("-") || key === "role" || key === "for") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children);
  return node;
}

// The browser's storage, which private windows may not have.
export const storage = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  // Returns false if there is no room.
  set(key, value) { try { localStorage.setItem(key, value); return true; } catch { return false; } },
  remove(key) { try { localStorage.removeItem(key); } catch { /* not available */ } },
  keys() { try { return Object.keys(localStorage); } catch { return []; } },
};

// Copies a text; the button says how it went.
export async function copy(button, text, copied, refused) {
  const label = button.textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = copied; } catch { button.textContent = refused; }
  setTimeout(() => { button.textContent = label; }, 1200);
}

// Says a text to screen readers, a sentence at a time while it is streamed.
export function speaker(node) {
  let rest = "";
  const say = (text) => {
    if (text.trim()) node.append(element("p", { textContent: text.trim() }));
    while (node.childElementCount > 60) node.firstElementChild.remove();
  };
  return {
    add(text) {
      rest += text;
      const end = Math.max(...["\n", ". ", "! ", "? ", "。", "！", "？"].map((mark) => rest.lastIndexOf(mark)));
      if (end >= 0) { say(rest.slice(0, end + 1)); rest = rest.slice(end + 1); }
    },
    end() { say(rest); rest = ""; },
  };
}

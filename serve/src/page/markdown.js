// Markdown as DOM nodes. Only text nodes hold what a model wrote: there is no way from it to HTML. The time is linear in
// the length of a text, but for the nesting of blocks and emphasis, which is limited.
import { element } from "./dom.js";

const MAX_DEPTH = 12;
const MAX_LINK = 2000;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;

// Returns the nodes of a text. `copyButton` makes the button of a code block.
export function markdown(text, copyButton = () => "") {
  return blocks(text.replaceAll("\r\n", "\n").split("\n"), 0, copyButton);
}

// Returns the address of a link if it is one that a reader may follow.
export function safeUrl(text) {
  if (text.length > MAX_LINK) return null;
  try {
    const url = new URL(text);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch { return null; }
}

const isRule = (line) => /^(?:-{3,}|\*{3,}|_{3,})$/.test(line.replace(/[ \t]/g, "")) && !/^ {4}/.test(line);
const isHeading = (line) => /^ {0,3}#{1,6}(?:[ \t]|$)/.test(line);
const isQuote = (line) => /^ {0,3}>/.test(line);
const startsBlock = (line) => FENCE.test(line) || isHeading(line) || isQuote(line) || isRule(line) || ITEM.test(line);
const indent = (line) => line.length - line.trimStart().length;

function blocks(lines, depth, copyButton) {
  const nodes = [];
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    const fence = FENCE.exec(line);
    const item = ITEM.exec(line);
    if (!line.trim()) {
      i += 1;
    } else if (fence) {
      const end = fenceEnd(lines, i + 1, fence[1]);
      const cut = indent(line);
      const code = lines.slice(i + 1, end).map((l) => l.slice(Math.min(cut, indent(l)))).join("\n");
      nodes.push(codeBlock(code, fence[2].trim().split(/\s/)[0], copyButton));
      i = end + 1;
    } else if (isHeading(line)) {
      const level = line.trimStart().match(/^#+/)[0].length;
      nodes.push(element(`h${level}`, {}, ...inline(withoutHashes(line.trimStart().slice(level)))));
      i += 1;
    } else if (isRule(line)) {
      nodes.push(element("hr"));
      i += 1;
    } else if (isQuote(line) && depth < MAX_DEPTH) {
      const quoted = [];
      for (; i < lines.length && isQuote(lines[i]); i += 1) quoted.push(lines[i].trimStart().replace(/^> ?/, ""));
      nodes.push(element("blockquote", {}, ...blocks(quoted, depth + 1, copyButton)));
    } else if (item && depth < MAX_DEPTH) {
      const list = listAt(lines, i, item, depth, copyButton);
      nodes.push(list.node);
      i = list.end;
    } else if (isTable(lines, i)) {
      const table = tableAt(lines, i);
      nodes.push(table.node);
      i = table.end;
    } else {
      const paragraph = [line];
      for (i += 1; i < lines.length && lines[i].trim() && !startsBlock(lines[i]) && !isTable(lines, i); i += 1) paragraph.push(lines[i]);
      nodes.push(element("p", {}, ...inline(paragraph.map((l) => l.trim()).join("\n"))));
    }
  }
  return nodes;
}

function fenceEnd(lines, start, mark) {
  for (let i = start; i < lines.length; i += 1) {
    const line = lines[i].trim();
    if (line.length >= mark.length && line[0] === mark[0] && indent(lines[i]) < 4 && line === mark[0].repeat(line.length)) return i;
  }
  return lines.length;
}

function codeBlock(code, language, copyButton) {
  const bar = element("figcaption", {}, element("span", { textContent: language }), copyButton(code));
  const pre = element("pre", { tabIndex: 0 }, element("code", { textContent: code }));
  return element("figure", { className: "code" }, bar, pre);
}

// A heading's closing hashes are not part of it.
function withoutHashes(text) {
  const trimmed = text.trim();
  let end = trimmed.length;
  while (end > 0 && trimmed[end - 1] === "#") end -= 1;
  return end === 0 || /\s/.test(trimmed[end - 1]) ? trimmed.slice(0, end).trimEnd() : trimmed;
}

// A line belongs to an item if it is indented by two more than its marker, or continues its paragraph.
function listAt(lines, start, first, depth, copyButton) {
  const base = first[1].length, isOrdered = /\d/.test(first[2]);
  const items = [];
  let i = start;
  while (i < lines.length) {
    const item = ITEM.exec(lines[i]);
    if (!item || item[1].length >= base + 2 || item[1].length < base || /\d/.test(item[2]) !== isOrdered || isRule(lines[i])) break;
    const content = [lines[i].slice(item[0].length)];
    for (i += 1; i < lines.length; i += 1) {
      const line = lines[i];
      if (!line.trim()) {
        const next = lines[i + 1] ?? "";
        if (!next.trim() || indent(next) < base + 2) break;
        content.push("");
      } else if (indent(line) >= base + 2) {
        content.push(line.slice(Math.min(indent(line), base + item[2].length + 1)));
      } else if (!startsBlock(line)) {
        content.push(line.trimStart());
      } else {
        break;
      }
    }
    items.push(element("li", {}, ...tight(blocks(content, depth + 1, copyButton))));
    // Blank lines between items do not end the list.
    let next = i;
    while (next < lines.length && !lines[next].trim()) next += 1;
    if (next > i && ITEM.test(lines[next] ?? "") && indent(lines[next]) >= base) i = next;
  }
  const node = element(isOrdered ? "ol" : "ul", isOrdered ? { start: parseInt(first[2], 10) } : {}, ...items);
  return { node, end: i };
}

// An item of one paragraph is shown without the paragraph's margin.
const tight = (nodes) => nodes[0]?.tagName === "P" ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;

function cells(line) {
  const parts = [];
  let part = "";
  const trimmed = line.trim();
  for (let i = 0; i < trimmed.length; i += 1) {
    if (trimmed[i] === "\\" && trimmed[i + 1] === "|") { part += "|"; i += 1; }
    else if (trimmed[i] === "|") { parts.push(part.trim()); part = ""; }
    else part += trimmed[i];
  }
  parts.push(part.trim());
  if (parts[0] === "") parts.shift();
  if (parts.at(-1) === "") parts.pop();
  return parts;
}

function isTable(lines, i) {
  const delimiter = lines[i + 1];
  if (!delimiter || !lines[i].includes("|") || !delimiter.includes("-") || /[^\s|:-]/.test(delimiter)) return false;
  const parts = cells(delimiter);
  return parts.every((part) => /^:?-+:?$/.test(part)) && parts.length === cells(lines[i]).length;
}

function tableAt(lines, start) {
  const align = cells(lines[start + 1]).map((part) => part.endsWith(":") ? (part.startsWith(":") ? "center" : "right") : "left");
  const row = (line, name) => {
    const parts = cells(line);
    return element("tr", {}, ...align.map((side, i) => element(name, { data: { align: side } }, ...inline(parts[i] ?? ""))));
  };
  const body = element("tbody");
  let i = start + 2;
  for (; i < lines.length && lines[i].includes("|") && lines[i].trim(); i += 1) body.append(row(lines[i], "td"));
  const table = element("table", {}, element("thead", {}, row(lines[start], "th")), body);
  return { node: element("div", { className: "scroll", tabIndex: 0 }, table), end: i };
}

// Returns the nodes of a line of text. First it is split into text, nodes and runs of `*`, `_` and `~`; then runs are
// paired, each with the nearest one before it that can open.
export function inline(text, inLink = false) {
  const pieces = [], codeEnd = codeSpans(text), bracketEnd = inLink ? new Map() : brackets(text, codeEnd);
  let plain = "";
  const flush = () => { if (plain) pieces.push({ text: plain }); plain = ""; };
  const put = (node) => { flush(); pieces.push({ node }); };
  for (let i = 0; i < text.length;) {
    const c = text[i];
    if (c === "\\" && /[!-/:-@[-`{-~]/.test(text[i + 1] ?? "")) {
      plain += text[i + 1];
      i += 2;
    } else if (c === "\n") {
      put(element("br"));
      i += 1;
    } else if (c === "`") {
      const run = runLength(text, i), end = codeEnd.get(i);
      if (end === undefined) plain += text.slice(i, i + run);
      else put(element("code", { textContent: spanText(text.slice(i + run, end)) }));
      i = end === undefined ? i + run : end + run;
    } else if ((c === "[" || (c === "!" && text[i + 1] === "[")) && linkAt(text, c === "!" ? i + 1 : i, bracketEnd)) {
      // A picture is shown as a link: the page loads nothing from elsewhere.
      const link = linkAt(text, c === "!" ? i + 1 : i, bracketEnd);
      put(anchor(link.url, inline(link.text, true)));
      i = link.end;
    } else if (c === "<" && autolink(text, i)) {
      const found = autolink(text, i);
      put(inLink ? element("span", { textContent: found }) : anchor(safeUrl(found), [found]));
      i += found.length + 2;
    } else if (c === "h" && !inLink && !/\w/.test(text[i - 1] ?? "") && bareUrl(text, i)) {
      const found = bareUrl(text, i);
      put(anchor(safeUrl(found), [found]));
      i += found.length;
    } else if (c === "*" || c === "_" || c === "~") {
      const count = runLength(text, i);
      flush();
      pieces.push(run(text, i, count));
      i += count;
    } else {
      plain += c;
      i += 1;
    }
  }
  flush();
  return build(pair(pieces));
}

const anchor = (href, children) => element("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...children);

function runLength(text, start) {
  let end = start;
  while (text[end] === text[start]) end += 1;
  return end - start;
}

// Returns where the code span that each run of backticks opens ends: at the next run of the same length.
function codeSpans(text) {
  const ends = new Map(), last = new Map();
  for (let i = text.lastIndexOf("`"); i >= 0; i = i > 0 ? text.lastIndexOf("`", i - 1) : -1) {
    let start = i;
    while (text[start - 1] === "`") start -= 1;
    const length = i - start + 1;
    if (last.has(length)) ends.set(start, last.get(length));
    last.set(length, start);
    i = start;
  }
  return ends;
}

const spanText = (text) => {
  const line = text.replaceAll("\n", " ");
  return line.startsWith(" ") && line.endsWith(" ") && line.trim() ? line.slice(1, -1) : line;
};

// Returns the closing bracket of each opening one, outside of code.
function brackets(text, codeEnd) {
  const ends = new Map(), open = [];
  for (let i = 0; i < text.length; i += 1) {
    if (text[i] === "\\") i += 1;
    else if (text[i] === "`") { const length = runLength(text, i); i = (codeEnd.get(i) ?? i) + length - 1; }
    else if (text[i] === "[") open.push(i);
    else if (text[i] === "]" && open.length) ends.set(open.pop(), i);
  }
  return ends;
}

// Returns the link whose `[` is at `start`, if its address is one to follow.
function linkAt(text, start, bracketEnd) {
  const close = bracketEnd.get(start);
  if (close === undefined || text[close + 1] !== "(") return null;
  let depth = 1, end = close + 2;
  for (; end < text.length && end < close + MAX_LINK && depth > 0; end += 1) {
    if (text[end] === "(") depth += 1;
    else if (text[end] === ")") depth -= 1;
    else if (text[end] === "\n") return null;
  }
  if (depth > 0) return null;
  // What follows a space is the title.
  const [address] = text.slice(close + 2, end - 1).trim().split(/\s/);
  const url = safeUrl(address.replace(/^<(.*)>$/, "$1"));
  return url ? { url, text: text.slice(start + 1, close), end } : null;
}

function autolink(text, start) {
  const pattern = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/y;
  pattern.lastIndex = start;
  const found = pattern.exec(text)?.[1];
  return found && safeUrl(found) ? found : null;
}

function bareUrl(text, start) {
  const pattern = /https?:\/\/[^\s<>"'`*\])}（）。，；、]{1,2000}/y;
  pattern.lastIndex = start;
  const found = pattern.exec(text)?.[0].replace(/[.,;:!?]+$/, "");
  return found && safeUrl(found) ? found : null;
}

// `*` may stand within a word, as Chinese needs it; `_` may not.
function run(text, start, count) {
  const before = text[start - 1] ?? " ", after = text[start + count] ?? " ", char = text[start];
  const inWord = char === "_" && /[\p{L}\p{N}]/u.test(before) && /[\p{L}\p{N}]/u.test(after);
  return { char, left: count, opens: [], closes: [], canOpen: !/\s/.test(after) && !inWord, canClose: !/\s/.test(before) && !inWord };
}

function pair(pieces) {
  const open = { "*": [], _: [], "~": [] };
  pieces.forEach((piece, index) => {
    if (!piece.char) return;
    const own = open[piece.char];
    while (piece.canClose && piece.left > 0 && own.length) {
      const opener = pieces[own.at(-1)];
      const count = opener.left >= 2 && piece.left >= 2 ? 2 : 1;
      if (piece.char === "~" && count === 1) break;
      opener.left -= count;
      piece.left -= count;
      opener.opens.push(count);
      piece.closes.push(count);
      // What opened in between cannot close outside.
      for (const others of Object.values(open)) while (others.at(-1) > own.at(-1)) others.pop();
      if (opener.left === 0) own.pop();
    }
    if (piece.canOpen && piece.left > 0) own.push(index);
  });
  return pieces;
}

function build(pieces) {
  const root = document.createDocumentFragment(), path = [root];
  const put = (node) => path.at(-1).append(node);
  for (const piece of pieces) {
    if (piece.text !== undefined) put(piece.text);
    else if (piece.node) put(piece.node);
    else {
      for (let i = 0; i < piece.closes.length; i += 1) path.pop();
      if (piece.left > 0) put(piece.char.repeat(piece.left));
      for (const count of piece.opens.toReversed()) {
        if (path.length > MAX_DEPTH) { path.push(path.at(-1)); continue; }
        const node = element(piece.char === "~" ? "del" : count === 2 ? "strong" : "em");
        put(node);
        path.push(node);
      }
    }
  }
  return [...root.childNodes];
}

// Requests to the server that the page came from.

const KEY = "pipeline-key";
let secret = "";
try { secret = sessionStorage.getItem(KEY) ?? ""; } catch { /* not available: it lasts as long as the page */ }

export const key = () => secret;
export function setKey(value) {
  secret = value.trim();
  try { sessionStorage.setItem(KEY, secret); } catch { /* as above */ }
}

export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const headers = (more) => ({ ...more, ...(secret && { Authorization: `Bearer ${secret}` }) });

async function checked(response) {
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new ApiError(answer?.error?.message ?? `The server answered ${response.status}.`, response.status, answer?.error?.code);
}

// Returns the JSON at a path.
export async function read(path) {
  return (await checked(await fetch(path, { headers: headers(), cache: "no-store" }))).json();
}

const send = (path, body, signal) =>
  fetch(path, { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body), signal }).then(checked);

// Sends a body, and returns the JSON of the answer.
export async function post(path, body, signal) {
  return (await send(path, body, signal)).json();
}

// Sends a body, and yields the server-sent events of the answer.
export async function* stream(path, body, signal) {
  const response = await send(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("The connection was lost.");
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const event = JSON.parse(data);
        if (event.error) throw new ApiError(event.error.message, 0, event.error.code);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => { /* it has ended */ });
  }
}

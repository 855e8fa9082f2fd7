// The page of `pipeline judge`: one pair after another, by button or key.

const KEYS = { ArrowLeft: "left", l: "left", ArrowRight: "right", r: "right", t: "tie", s: "skip" };

let number = null;
const element = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-choice]")];

function show(found) {
  number = found.number ?? null;
  element("pair").hidden = number === null;
  element("table").hidden = found.table === undefined;
  for (const id of ["prompt", "left", "right", "table"]) element(id).textContent = found[id] ?? "";
  for (const button of buttons) button.disabled = false;
  if (number !== null) element("progress").textContent = `Pair ${number} of ${found.total}`;
  if (found.table !== undefined) {
    element("progress").textContent = "Judge";
    document.querySelector("h1").textContent = "Ratings";
  }
  element("message").textContent = found.error ?? (found.table !== undefined ? "That was the last pair." : "");
}

async function ask(path, options) {
  for (const button of buttons) button.disabled = true;
  try {
    const answer = await fetch(path, options);
    show(await answer.json());
  } catch {
    element("message").textContent = "The server has stopped: the same pipeline judge starts it, and every vote is kept.";
  }
}

function choose(choice) {
  if (number === null) return;
  const body = JSON.stringify({ number, choice });
  number = null;
  element("message").textContent = "Both models are answering…";
  ask("api/vote", { method: "POST", headers: { "Content-Type": "application/json" }, body });
}

for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.choice));
document.addEventListener("keydown", (event) => {
  const choice = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (choice && !event.ctrlKey && !event.metaKey && !event.altKey) choose(choice);
});
ask("api/pair");

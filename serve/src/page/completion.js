// Completion: a text is continued as it is.
import * as attention from "./attention.js";
import { $, copy, element, speaker } from "./dom.js";
import { ending, generate, isRunning, onRunning, stop } from "./generation.js";
import { onLanguage, t } from "./i18n.js";
import { tokenView, watchTokens } from "./insight.js";
import * as sampling from "./sampling.js";
import { showError } from "./status.js";
import * as trace from "./trace.js";

// How often the text is drawn, at most.
const DRAW_MILLISECONDS = 60;

let given = "", text = "", reason = "", model, app;

// `page` is as for a conversation.
export function start(page) {
  app = page;
  watchTokens($("output"), attention.choose);
  $("form").onsubmit = (event) => { event.preventDefault(); run(); };
  $("stop").onclick = stop;
  $("copy").onclick = () => copy($("copy"), given + text, t("copied"), t("refused"));
  $("more").onclick = () => {
    $("prompt").value = given + text;
    $("prompt").scrollTop = $("prompt").scrollHeight;
    app.edited();
    run();
  };
  $("find").onclick = () => trace.show(given + text, model, $("find"));
  onRunning((isOn) => {
    $("go").disabled = isOn;
    $("stop").disabled = !isOn;
    for (const id of ["copy", "more", "find"]) $(id).disabled = isOn || !text;
  });
  onLanguage(() => { $("ended").textContent = ending(reason); });
}

// Shows the example prompts of the configuration.
export function examples(prompts) {
  $("chips").replaceChildren(...prompts.map((example) => element("button", {
    type: "button", className: "chip", textContent: example, title: t("useExample"),
    onclick: () => { $("prompt").value = example; $("prompt").focus(); app.edited(); },
  })));
}

export const request = () => ({ ...app.model(), prompt: $("prompt").value, ...sampling.parameters() });

export async function run() {
  if (isRunning()) return;
  const wrong = sampling.invalid();
  if (wrong) return showError(wrong);
  const body = { ...request(), ...app.scores("completion") };
  const output = $("output"), [before, after] = output.children, words = speaker($("spoken"));
  const owner = { model: body.model, promptIds: null, tokens: [] };
  attention.close();
  trace.close();
  model = body.model;
  given = body.prompt;
  text = reason = "";
  before.textContent = given;
  after.textContent = "";
  output.classList.add("begun", "generating");
  $("ended").textContent = "";
  const view = app.showsScores() ? tokenView(owner, attention.isChosen) : null;
  if (view) after.append(view.node);
  let parts = "", scored = [], drawing = null;
  const draw = () => {
    const isAtEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
    if (view) view.add(scored);
    else after.append(parts);
    if (isAtEnd) output.scrollTop = output.scrollHeight;
    [parts, scored, drawing] = ["", [], null];
  };
  reason = await generate("v1/completions", body, body.max_tokens ?? Infinity, (part, tokens) => {
    text += part;
    parts += part;
    scored.push(...tokens);
    owner.tokens.push(...tokens);
    words.add(part);
    drawing ??= setTimeout(draw, DRAW_MILLISECONDS);
  }, (ids) => { owner.promptIds = ids; });
  clearTimeout(drawing);
  draw();
  view?.end();
  words.end();
  after.normalize();
  output.classList.remove("generating");
  $("ended").textContent = ending(reason);
  for (const id of ["copy", "more", "find"]) $(id).disabled = !text;
}

// The web page in Chromium: node page.mjs SERVERS [NAME], a JSON object with the addresses of three servers and a key, and
// a part of the names of tests to run. Needs PIPELINE_PLAYWRIGHT, the folder of playwright-core, and PIPELINE_CHROMIUM, the
// browser; PIPELINE_SCREENSHOTS is a folder for pictures of tests that failed.
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { markdownCases, hostile, slow } from "./cases.mjs";

const { chromium } = createRequire(import.meta.url)(process.env.PIPELINE_PLAYWRIGHT);
const servers = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: process.env.PIPELINE_CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});

let checks = 0, current = "";
function check(condition, what) {
  if (!condition) throw new Error(`${current}: ${what}`);
  checks += 1;
}
const equal = (found, expected, what) => check(JSON.stringify(found) === JSON.stringify(expected), `${what}: ${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);

// Opens the page; what a browser complains about fails the test.
async function open(options = {}, { url = servers.open, key = null } = {}) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, locale: "en-US", ...options });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(error.message));
  page.on("console", (message) => { if (message.type() === "error" && !isRefusal(message)) page.problems.push(message.text()); });
  page.on("dialog", (dialog) => { page.problems.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  if (key) await page.addInitScript((secret) => sessionStorage.setItem("pipeline-key", secret), key);
  await page.goto(url);
  await page.locator("#state[data-state=ready], #state[data-state=bad]").waitFor();
  return page;
}

// Requests that the server refuses as it should: any other 404 is a file that is missing.
function isRefusal(message) {
  return /status of 40[01]/.test(message.text()) || (/status of 404/.test(message.text()) && message.location().url.endsWith("/trace"));
}

async function close(page) {
  equal(page.problems, [], "what the browser complains about");
  await page.context().close();
}

const idle = (page) => page.waitForFunction(() => document.querySelector("#send").hidden === false && document.querySelector("#go").disabled === false);
async function say(page, text) {
  await page.fill("#message", text);
  await page.press("#message", "Enter");
  await page.locator(".message.assistant .tools .link").first().waitFor();
  await idle(page);
}
const contents = (page) => page.locator(".message .content").allTextContents();

// Answers the next requests for a conversation with a text, a few characters at a time.
function answerWith(page, text) {
  const event = (value) => `data: ${JSON.stringify(value)}\n\n`;
  const parts = text.match(/[\s\S]{1,1000}/gu).map((content) => event({ choices: [{ index: 0, delta: { content }, logprobs: null, finish_reason: null }] }));
  const end = event({ choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: "stop" }] }) + event({ choices: [], usage: { prompt_tokens: 1, completion_tokens: parts.length } });
  return page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream", body: `${parts.join("")}${end}data: [DONE]\n\n` }));
}

const tests = {
  async "a server with keys"() {
    const page = await open({}, { url: servers.keyed });
    const focused = () => page.evaluate(() => document.activeElement.id);
    equal(await focused(), "key", "the field for the key has the focus");
    check((await page.textContent("#error")).includes("needs an API key"), "a clear sentence");
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("does not accept this API key").waitFor();
    equal(await focused(), "key", "the field keeps the focus");
    await page.fill("#key", servers.key);
    await page.press("#key", "Enter");
    await page.locator("#state[data-state=ready]").waitFor();
    equal(await page.locator("#models option").allTextContents(), ["pipeline", "other"], "the models to choose from");
    await page.selectOption("#models", "other");
    const sent = page.waitForRequest("**/v1/chat/completions");
    await page.fill("#max_tokens", "8");
    await say(page, "fn main");
    equal((await sent).headers().authorization, `Bearer ${servers.key}`, "the header");
    equal((await sent).postDataJSON().model, "other", "the model");
    check((await contents(page))[1].length > 0, "an answer");
    await page.check("#insight");
    await say(page, "let");
    await page.selectOption("#models", "pipeline");
    const explained = page.waitForRequest("**/attention");
    await page.locator(".token").nth(1).click();
    equal((await explained).postDataJSON().model, "other", "the attention is that of the model that answered");
    await page.locator("#attention-text .token").first().waitFor();
    await page.selectOption("#models", "other");
    const stored = await page.evaluate(() => JSON.stringify(localStorage));
    check(!stored.includes(servers.key), "the key is not in what outlives the tab");
    await page.reload();
    await page.locator("#state[data-state=ready]").waitFor();
    equal(await page.inputValue("#models"), "other", "the model is kept");
    await close(page);
  },

  async "files of the page"() {
    const page = await open();
    const answer = await page.request.get(servers.open);
    const policy = answer.headers()["content-security-policy"];
    check(policy.includes("script-src 'self';") && !policy.includes("unsafe"), "scripts of the server only");
    const again = await page.request.get(servers.open, { headers: { "If-None-Match": answer.headers().etag } });
    equal(again.status(), 304, "what the browser has is not sent again");
    const refused = await page.evaluate(() => { try { document.body.innerHTML = "<b>a</b>"; return false; } catch { return true; } });
    check(refused, "no text becomes HTML");
    // That the browser says so is part of this test.
    page.problems = page.problems.filter((problem) => !problem.includes("TrustedHTML"));
    const outside = await page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => !name.startsWith(location.origin)).length);
    equal(outside, 0, "nothing is loaded from elsewhere");
    await close(page);
  },

  async "history over a reload"() {
    const page = await open();
    await page.fill("#max_tokens", "12");
    await page.locator("#system-box summary").click();
    await page.fill("#system", "Be brief.");
    await say(page, "let first = 1;");
    await page.click("#new");
    equal(await page.inputValue("#system"), "", "a new conversation has no system prompt");
    await say(page, "let second = 2;");
    const before = await contents(page);
    await page.reload();
    await page.locator("#history .item").first().waitFor();
    equal(await contents(page), before, "the conversation is there after a reload");
    equal(await page.locator("#history .item").allTextContents(), ["let second = 2;", "let first = 1;"], "the latest first");
    await page.getByRole("button", { name: "let first = 1;", exact: true }).click();
    equal((await contents(page))[0], "let first = 1;", "the other conversation");
    equal(await page.inputValue("#system"), "Be brief.", "its system prompt");
    const download = page.waitForEvent("download");
    await page.click("#export");
    const lines = (await readFile(await (await download).path(), "utf8")).trim().split("\n").map((line) => JSON.parse(line));
    equal(lines.length, 2, "one line for each conversation");
    equal(lines[1].messages.map(({ role }) => role), ["system", "user", "assistant"], "its messages");
    const remove = page.locator("#history .remove").nth(1);
    await remove.click();
    equal(await page.locator("#history .item").count(), 2, "one press deletes nothing");
    await remove.click();
    equal(await page.locator("#history .item").count(), 1, "the second one does");
    equal(await page.locator(".message").count(), 0, "it is not on the screen any more");
    await page.reload();
    equal(await page.locator("#history .item").allTextContents(), ["let second = 2;"], "it stays deleted");
    await close(page);
  },

  async "a reload while an answer is written"() {
    const page = await open();
    await page.route("**/v1/chat/completions", () => { /* it is never answered */ });
    await page.fill("#message", "let x");
    await page.press("#message", "Enter");
    await page.locator(".message.generating").waitFor();
    await page.reload();
    equal(await contents(page), ["let x"], "no empty answer");
    await page.unroute("**/v1/chat/completions");
    await answerWith(page, "Now.");
    await page.getByRole("button", { name: "Regenerate" }).click();
    await page.locator(".message.assistant .tools .link").first().waitFor();
    equal((await contents(page))[1], "Now.", "the message can be answered");
    await close(page);
  },

  async "edit and regenerate"() {
    const page = await open();
    await page.fill("#max_tokens", "10");
    await page.fill("#seed", "7");
    await say(page, "fn one()");
    await say(page, "fn two()");
    const before = await contents(page);
    check(before.every((text) => text.trim()), "answers that can be seen");
    await page.locator(".message.assistant").nth(1).getByRole("button", { name: "Regenerate" }).click();
    await idle(page);
    equal(await contents(page), before, "the same seed gives the same answer again");
    const sent = page.waitForRequest("**/v1/chat/completions");
    await page.locator(".message.user").first().getByRole("button", { name: "Edit" }).click();
    equal(await page.evaluate(() => document.activeElement.value), "fn one()", "the message to edit has the focus");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("struct A;");
    await page.keyboard.press("Enter");
    await page.locator(".message.assistant .tools .link").first().waitFor();
    await idle(page);
    equal((await sent).postDataJSON().messages, [{ role: "user", content: "struct A;" }], "what came after is gone");
    equal(await page.locator(".message").count(), 2, "one question and one answer");
    await page.locator(".message.user").first().getByRole("button", { name: "Edit" }).click();
    await page.keyboard.press("Escape");
    equal((await contents(page))[0], "struct A;", "Escape leaves it as it was");
    await close(page);
  },

  async "stop"() {
    const page = await open();
    // Far more than is made until the button is pressed.
    await page.evaluate(() => document.querySelector("#max_tokens").setAttribute("max", 1_000_000));
    await page.fill("#max_tokens", "1000000");
    await page.fill("#temperature", "0");
    await page.fill("#message", "fn main");
    await page.click("#send");
    const hasBegun = () => page.waitForFunction(() => parseInt(document.querySelector("#generated").textContent, 10) > 20);
    const hasEnded = async () => {
      for (let i = 0; ; i += 1) {
        const { requests } = await (await page.request.get(`${servers.open}/health`)).json();
        if (requests.running === 0) break;
        check(i < 50, "the server goes on");
        await page.waitForTimeout(100);
      }
    };
    await hasBegun();
    equal(await page.evaluate(() => document.activeElement.id), "chat-stop", "the focus is where it can stop");
    await page.keyboard.press("Enter");
    await page.locator(".note").getByText("Stopped").waitFor();
    await hasEnded();
    await page.click("#tab-completion");
    await page.fill("#prompt", "fn main");
    await page.click("#go");
    await hasBegun();
    await page.keyboard.press("Escape");
    await page.locator("#ended").getByText("Stopped").waitFor();
    check((await page.textContent("#output .new")).length > 20, "what there is stays");
    await hasEnded();
    await close(page);
  },

  async "Markdown"() {
    const page = await open();
    const html = (text) => page.evaluate(async (source) => {
      const { markdown } = await import("/page/markdown.js");
      const box = document.createElement("div");
      box.append(...markdown(source));
      return box.innerHTML.replaceAll(' target="_blank" rel="noopener noreferrer"', "").replaceAll(' data-align="left"', "").replaceAll(' tabindex="0"', "");
    }, text);
    for (const [text, expected] of markdownCases) equal(await html(text), expected, text);
    for (const [name, text] of slow) {
      const start = Date.now();
      const found = await html(text);
      // The slowest takes 1.7 s on a busy machine; what grows faster than with the square of the length fails.
      check(Date.now() - start < 10_000, `${name} takes ${Date.now() - start} ms`);
      const letters = (shown) => shown.replace(/<[^>]*>|&[a-z]+;/g, "").match(/[a-z]/g)?.length ?? 0;
      equal(letters(found), letters(text), `the letters of ${name}`);
    }
    await close(page);
  },

  async "what a model writes is never HTML"() {
    const page = await open();
    for (const text of hostile) {
      await page.click("#new");
      await page.unroute("**/v1/chat/completions");
      await answerWith(page, text);
      await say(page, text);
      const found = await page.evaluate(() => ({
        elements: document.querySelectorAll("#messages :is(script, img, iframe, svg, style, object, embed, base, form, input, link, meta, video, math)").length,
        handlers: [...document.querySelectorAll("#messages *, #history *")].flatMap((node) => node.getAttributeNames()).filter((name) => name.startsWith("on") || name === "style").length,
        links: [...document.querySelectorAll("#messages a")].filter((a) => !/^(https?:|mailto:)/.test(a.getAttribute("href")) || !a.rel.includes("noopener")).length,
        ran: window.ran ?? null,
      }));
      equal(found, { elements: 0, handlers: 0, links: 0, ran: null }, text);
    }
    await page.reload();
    await page.locator(".message.assistant").waitFor();
    equal(await page.evaluate(() => window.ran ?? null), null, "after a reload");
    await close(page);
  },

  async "hostile text in a stored conversation and in an application"() {
    const page = await open();
    const name = "<img src=x onerror=ran=1>";
    await page.getByRole("button", { name, exact: true }).click();
    equal(await page.textContent("#application-name"), name, "the name of an application is text");
    await page.evaluate((title) => {
      localStorage.setItem("pipeline-conversation-a", JSON.stringify({ id: "a", title, updated: "2026", messages: [{ role: "assistant", content: title, reason: title }] }));
      localStorage.setItem("pipeline-conversation-b", "not JSON");
      localStorage.setItem("pipeline-conversation-c", JSON.stringify({ messages: [{ role: "system", content: 1 }] }));
      localStorage.setItem("pipeline-sampling", "{");
    }, name);
    await page.reload();
    await page.locator("#history").getByRole("button", { name, exact: true }).click();
    equal(await contents(page), [name], "and so is a stored message");
    equal(await page.evaluate(() => [window.ran ?? null, document.querySelectorAll("img").length]), [null, 0], "nothing ran");
    await close(page);
  },

  async "applications"() {
    const page = await open();
    await page.fill("#max_tokens", "77");
    await page.getByRole("button", { name: "Answers from a FAQ" }).click();
    equal(await page.inputValue("#temperature"), "0.2", "its settings of sampling");
    await page.locator("#application-form button").click();
    check((await page.textContent("#error")).includes("Fill in “The customer"), "an empty field is named");
    await page.getByRole("button", { name: "Can I return shoes" }).click();
    await page.getByLabel("The customer's question").fill("Is {faq} a trick?");
    await page.fill("#max_tokens", "10");
    const sent = page.waitForRequest("**/v1/chat/completions");
    await page.locator("#application-form button").click();
    await page.locator(".message.assistant .tools .link").first().waitFor();
    await idle(page);
    const { messages } = (await sent).postDataJSON();
    equal(messages[1], { role: "user", content: "Is {faq} a trick?" }, "what is typed is not a template");
    check(messages[0].content.includes("30 days from delivery") && messages[0].content.includes("support@example.org"), "the system prompt holds the FAQ");
    const next = page.waitForRequest("**/v1/chat/completions");
    await say(page, "fn");
    equal((await next).postDataJSON().messages[0], messages[0], "the conversation goes on with it");
    await page.click("#new");
    equal(await page.inputValue("#max_tokens"), "77", "one's own settings are back");
    await page.getByRole("button", { name: "Explain", exact: true }).click();
    await page.getByLabel("Subject").fill("the sum");
    await page.getByLabel("Reader").selectOption({ index: 1 });
    await page.click("#language");
    equal(await page.inputValue("#field-subject"), "the sum", "another language keeps what was typed");
    equal(await page.evaluate(() => document.querySelector("#field-level").selectedIndex), 1, "and chosen");
    await close(page);
  },

  async "a model without a chat template"() {
    const page = await open({}, { url: servers.base });
    check(await page.locator("#tab-chat").isDisabled(), "it cannot chat");
    check(await page.getByText("This model has no chat template").first().isVisible(), "the page says so");
    equal(await page.inputValue("#prompt"), "let mut", "the example of the configuration");
    await page.getByRole("button", { name: "Story" }).click();
    await page.getByLabel("First sentence").fill("fn main() {");
    await page.fill("#max_tokens", "10");
    const sent = page.waitForRequest("**/v1/completions");
    await page.locator("#application-form button").click();
    equal((await sent).postDataJSON().prompt, "fn main() {", "the template is the prompt");
    await page.getByText("token limit reached").waitFor();
    const output = await page.textContent("#output");
    check(output.startsWith("fn main() {") && output.length > 12, "the text");
    await page.click("#more");
    await idle(page);
    // The bytes of a cut character may become one with those that follow.
    const kept = output.replace(/\ufffd+$/, "");
    await page.waitForFunction((kept) => document.querySelector("#output").textContent.startsWith(kept), kept);
    check((await page.textContent("#curl")).includes("/v1/completions"), "as a curl command");
    await close(page);
  },

  async "probabilities"() {
    const page = await open();
    await page.check("#insight");
    await page.fill("#max_tokens", "24");
    let body = "";
    await page.route("**/v1/chat/completions", async (route) => {
      const response = await route.fetch();
      body = await response.text();
      await route.fulfill({ response, body });
    });
    await say(page, "println!(\"é → 日本 🦀\")");
    const events = body.split("\n\n").filter((part) => part.startsWith("data: {")).map((part) => JSON.parse(part.slice(6)));
    const text = Buffer.from(events.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? []).flatMap(({ bytes }) => bytes)).toString();
    equal((await page.locator(".message.assistant .token").allTextContents()).join(""), text, "the tokens are the text");
    const token = page.locator(".token").nth(3);
    await token.hover();
    check(/% probability · [\d.]+ bits/.test(await page.textContent("#tip")), "the probability");
    check(await page.locator("#tip li").count() >= 5, "the alternatives");
    await page.locator(".token").first().focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    equal(await page.evaluate(() => [...document.activeElement.parentElement.children].indexOf(document.activeElement)), 2, "arrow keys move");
    equal(await page.evaluate(() => document.activeElement.getAttribute("aria-describedby")), "tip", "a screen reader finds the description");
    await page.uncheck("#insight");
    equal(await page.locator(".token").count(), 0, "without them it is Markdown");
    await page.check("#insight");
    await page.click("#tab-completion");
    await page.fill("#prompt", "fn");
    await page.click("#go");
    await idle(page);
    check(await page.locator("#output .token").count() >= 5, "in completions, too");
    await close(page);
  },

  async "attention"() {
    const page = await open();
    await page.check("#insight");
    await page.fill("#max_tokens", "24");
    await page.fill("#seed", "7");
    let body = "";
    await page.route("**/v1/chat/completions", async (route) => {
      const response = await route.fetch();
      body = await response.text();
      await route.fulfill({ response, body });
    });
    await say(page, "println!(\"é → 日本 🦀\")");
    const events = body.split("\n\n").filter((part) => part.startsWith("data: {")).map((part) => JSON.parse(part.slice(6)));
    const prompt = events.find((event) => event.prompt_token_ids).prompt_token_ids;
    const ids = events.flatMap(({ choices }) => choices[0]?.token_ids ?? []);
    check(prompt.length > 10 && ids.length > 10, "the ids of the tokens");
    check(await page.locator("#attention").isHidden(), "nothing until a token is chosen");

    const answer = page.locator(".message.assistant .token");
    const at = await answer.nth(5).evaluate((span) => span.at);
    const request = page.waitForRequest("**/attention"), response = page.waitForResponse("**/attention");
    await answer.nth(5).click();
    equal((await request).postDataJSON(), { model: "pipeline", prompt: [...prompt, ...ids.slice(0, at)] }, "the tokens before it");
    const { layer, layers, heads, tokens, weights } = await (await response).json();
    await page.locator("#attention-text .token").first().waitFor();
    equal([layer, layers, heads, weights.length], [1, 2, 4, 4], "all heads of the last layer");
    equal(await answer.nth(5).getAttribute("aria-pressed"), "true", "the token is marked");
    const named = await answer.nth(5).evaluate(async (span) => { const { label } = await import("/page/insight.js"); return label(span.textContent); });
    check((await page.textContent("#attention-about")).includes(`“${named}”`), "and named");

    // What is shown, as text and weight, against the answer of the server.
    const shown = () => page.evaluate(() => [...document.querySelectorAll("#attention-text .token")].map(({ textContent, weight, dataset }) => ({ text: textContent, weight, level: Number(dataset.weight) })));
    const whole = Buffer.from(tokens.flatMap(({ bytes }) => bytes)).toString();
    const matches = async (expected, what) => {
      const spans = await shown();
      equal(spans.map(({ text }) => text).join(""), whole, `${what}: the text`);
      check(Math.abs(spans.reduce((sum, { weight }) => sum + weight, 0) - 1) < 1e-4, `${what}: the weights sum to 1`);
      const largest = Math.max(...spans.map(({ weight }) => weight)), first = spans[0].weight;
      check(Math.abs(first - expected[0]) < 1e-6, `${what}: ${first} is not ${expected[0]}`);
      check(spans.every(({ weight, level }) => level === [0.01, 0.03, 0.1, 0.3].filter((least) => weight >= least).length), `${what}: the shades`);
      const listed = await page.locator("#attention-top li").allTextContents();
      equal(listed.length, 5, `${what}: the list`);
      check(listed[0].includes(`${(largest * 100).toFixed(1)} %`), `${what}: ${listed[0]} is not ${largest}`);
      check((await page.textContent("#attention-summary")).includes(`${(largest * 100).toFixed(1)} %`), `${what}: said to screen readers`);
    };
    const mean = (rows) => rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
    await matches(mean(weights), "the mean of the heads");
    await page.selectOption("#attention-head", "2");
    await matches(weights[2], "a head");
    const next = page.waitForRequest("**/attention"), nextAnswer = page.waitForResponse("**/attention");
    await page.selectOption("#attention-layer", "0");
    equal((await next).postDataJSON().layer, 0, "another layer is asked for");
    const first = (await (await nextAnswer).json()).weights;
    await page.waitForFunction((weight) => Math.abs(document.querySelector("#attention-text .token").weight - weight) < 1e-6, first[2][0]);
    await matches(first[2], "the head of the other layer");
    equal(await page.locator("#attention-head option").allTextContents(), ["mean of all", "1 of 4", "2 of 4", "3 of 4", "4 of 4"], "the heads");

    await page.locator("#attention-text .token").nth(3).hover();
    check(/[\d.]+ % of the attention · token \d+/.test(await page.textContent("#tip")), "the figure where one points");
    await page.locator("#attention-text .token").first().focus();
    await page.keyboard.press("ArrowRight");
    equal(await page.evaluate(() => document.activeElement.getAttribute("aria-describedby")), "tip", "and where the focus is");

    // By keys, there and back.
    await answer.nth(7).focus();
    await page.keyboard.press("Enter");
    equal(await page.evaluate(() => document.activeElement.id), "attention-layer", "the focus goes to the choice of a layer");
    equal(await page.evaluate(() => [...document.querySelectorAll("[aria-pressed=true]")].map(({ at }) => at)), [await answer.nth(7).evaluate((span) => span.at)], "one token is marked");
    await page.click("#language");
    await page.getByText("模型选择").waitFor();
    equal(await answer.nth(7).getAttribute("aria-pressed"), "true", "it stays marked in another language");
    await page.click("#language");
    await page.locator("#attention-layer").focus();
    await page.keyboard.press("Escape");
    check(await page.locator("#attention").isHidden(), "Escape closes it");
    equal(await page.evaluate(() => [...document.activeElement.parentElement.children].indexOf(document.activeElement)), 7, "and goes back to the token");

    await page.route("**/attention", (route) => route.fulfill({ status: 400, json: { error: { message: "No <b>weights</b>.", type: "invalid_request_error", param: "model", code: "attention_not_available" } } }));
    await page.keyboard.press("Enter");
    await page.locator("#attention-problem").getByText("No <b>weights</b>.").waitFor();
    equal(await page.locator("#attention-text .token").count(), 0, "nothing is shown then");
    await page.unroute("**/attention");
    await page.click("#new");
    check(await page.locator("#attention").isHidden(), "another conversation closes it");

    await page.click("#tab-completion");
    await page.fill("#prompt", "fn main");
    await page.click("#go");
    await idle(page);
    await page.locator("#output .token").nth(2).click();
    await page.locator("#attention-text .token").first().waitFor();
    check((await page.textContent("#attention-text")).startsWith("fn main"), "in completions, too");
    await page.uncheck("#insight");
    check(await page.locator("#attention").isHidden(), "without probabilities there is none");
    await close(page);
  },

  async "in the training data"() {
    const page = await open();
    const text = "It says let mut total = 0;\n// one <b>more</b> time";
    await answerWith(page, text);
    await say(page, "a");
    const asked = page.waitForRequest("**/trace"), answered = page.waitForResponse("**/trace");
    const button = page.locator(".message.assistant").getByRole("button", { name: "In the training data" });
    await button.click();
    equal((await asked).postDataJSON(), { model: "pipeline", input: text }, "the text of the answer is looked up");
    const { passages: [found, ...others], training_documents: documents } = await (await answered).json();
    await page.locator("#trace-text .passage").first().waitFor();
    equal([others.length, documents], [0, 2], "one passage of two documents");
    equal(await page.textContent("#trace-text"), text, "the whole text is shown");
    const marked = await page.locator("#trace-text .passage").allTextContents();
    equal(marked, [[...text].slice(found.start, found.end).join("")], "the passage is marked");
    check(marked[0].includes("mut total = 0;\n// one <b>more</b> time"), `what stands there: ${marked[0]}`);
    check((await page.textContent("#trace-count")).includes("once in the training data"), "how often");
    equal(await page.locator("#trace-documents mark").allTextContents(), [found.text], "within its document");
    check((await page.textContent("#trace-documents pre")).includes("日本 🦀"), "with what stands before");
    check(await page.locator("#trace-text b").count() === 0, "nothing of it is HTML");
    await page.locator("#trace-close").focus();
    await page.keyboard.press("Escape");
    check(await page.locator("#trace").isHidden(), "Escape closes it");
    check(await button.evaluate((node) => node === document.activeElement), "and goes back to the button");

    // Passages that overlap, and hostile documents.
    const place = (id, more) => ({ id, piece: 0, source: "crate <i>a</i>", path: "", licence: "MIT", position: 1, before: "<img src=x onerror=ran=1>", after: "", ...more });
    const passage = (start, end, more) => ({ start, end, text: [...text].slice(start, end).join(""), tokens: 30, count: 4, log_probability: -9, documents: [place("a"), place("b", { path: "src/b.rs", piece: 2, licence: "" })], ...more });
    await page.route("**/trace", (route) => route.fulfill({ json: { object: "trace", model: "pipeline", training_tokens: 1234, training_documents: 5, passages: [passage(8, 20), passage(3, 10, { tokens: 9, count: 1, documents: [] })] } }));
    await button.click();
    await page.locator("#trace-text .passage").nth(1).waitFor();
    equal(await page.textContent("#trace-text"), text, "the text is whole where passages overlap");
    equal(await page.locator("#trace-documents li").count(), 2, "the documents of the first passage");
    const shown = await page.textContent("#trace-documents");
    for (const expected of ["crate <i>a</i> · MIT", "src/b.rs", "piece 2", "licence not known", "<img src=x onerror=ran=1>"]) check(shown.includes(expected), `${expected} in ${shown}`);
    equal(await page.evaluate(() => globalThis.ran), undefined, "nothing ran");
    await page.locator("#trace-text [role=button]").first().focus();
    check((await page.textContent("#trace-count")).startsWith("9 tokens · once"), "the passage that has the focus");
    equal(await page.locator("#trace-text [aria-pressed=true]").count(), 1, "is the chosen one");
    await page.locator("#trace-text [role=button]").nth(1).hover();
    check((await page.textContent("#trace-count")).startsWith("30 tokens · 4 times"), "the one that is pointed at");
    await page.click("#language");
    await page.getByText("在训练数据中出现 4 次").waitFor();
    await page.click("#language");
    await page.route("**/trace", (route) => route.fulfill({ status: 404, json: { error: { message: "No <b>index</b>.", type: "invalid_request_error", param: "model", code: "trace_not_available" } } }));
    await button.click();
    await page.locator("#trace-problem").getByText("No <b>index</b>.").waitFor();
    await page.unroute("**/trace");
    await page.click("#new");
    check(await page.locator("#trace").isHidden(), "another conversation closes it");

    await page.click("#tab-completion");
    await page.fill("#prompt", "let mut total = 0;\n// one");
    await page.fill("#max_tokens", "4");
    await page.click("#go");
    await idle(page);
    await page.click("#find");
    await page.locator("#trace-text .passage").first().waitFor();
    check((await page.textContent("#trace-text")).startsWith("let mut total = 0;"), "in completions, the prompt too");
    await close(page);

    const other = await open({}, { url: servers.base });
    check(await other.locator("#find").isHidden(), "not without an index");
    await close(other);
  },

  async "keyboard and screen reader"() {
    const page = await open();
    const seen = [];
    for (let i = 0; i < 60; i += 1) {
      await page.keyboard.press("Tab");
      seen.push(await page.evaluate(() => document.activeElement.id || document.activeElement.className));
      if (seen.at(-1) === "send") break;
    }
    const order = ["skip", "language", "theme", "new", "tab-chat", "messages", "message", "send"].map((id) => seen.indexOf(id));
    check(order.every((at, i) => at >= 0 && (i === 0 || at > order[i - 1])), `the order of the focus: ${seen}`);
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.type("fn main");
    await page.fill("#max_tokens", "10");
    await page.focus("#message");
    await page.keyboard.press("Enter");
    await page.locator(".message.assistant .tools .link").first().waitFor();
    await idle(page);
    const spoken = (await page.textContent("#spoken")).replace(/\s/g, "");
    check(spoken.length > 0 && spoken === (await contents(page))[1].replace(/\s/g, ""), "the answer is said");
    await page.focus("#tab-chat");
    await page.keyboard.press("ArrowRight");
    equal(await page.evaluate(() => document.activeElement.id), "tab-completion", "arrow keys change the tab");
    await page.keyboard.press("Control+Enter");
    await page.locator("#output .new:not(:empty)").waitFor();
    await idle(page);
    const nameless = () => page.evaluate(() => [...document.querySelectorAll("button, input, textarea, select, a[href], summary")].filter((node) => node.checkVisibility()).filter((node) => (
      !node.getAttribute("aria-label") && !node.labels?.[0]?.textContent.trim() && !node.textContent.trim())).map((node) => node.outerHTML));
    equal(await nameless(), [], "everything has a name");
    await page.getByRole("button", { name: "News article" }).click();
    equal(await nameless(), [], "and in the form of an application");
    const ids = await page.evaluate(() => [...document.querySelectorAll("[id]")].map(({ id }) => id));
    equal(ids.length, new Set(ids).size, "each id is there once");
    await close(page);
  },

  async "narrow windows"() {
    const page = await open({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
    const fits = async (what) => {
      const [width, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      check(width <= inner && inner === 360, `${what}: ${width} px in ${inner}`);
    };
    await fits("an empty conversation");
    await answerWith(page, `| ${"column | ".repeat(12)}\n|${"---|".repeat(12)}\n| ${"value | ".repeat(12)}\n\n\`\`\`\n${"code ".repeat(60)}\n\`\`\`\n\n${"long".repeat(80)}`);
    await say(page, "long".repeat(80));
    await fits("a long word, a table and code");
    check(await page.locator("#side").isHidden() && await page.locator("#settings").isHidden(), "panels are hidden at first");
    await page.tap("#show-settings");
    check(await page.locator("#temperature").isVisible(), "settings");
    equal(await page.getAttribute("#show-settings", "aria-expanded"), "true", "and the button says so");
    await fits("settings");
    await page.tap("#show-side");
    await fits("conversations");
    await page.getByRole("button", { name: "News article" }).tap();
    check(await page.locator("#application-form").isVisible() && await page.locator("#side").isHidden(), "an application");
    await fits("an application");
    await page.tap("#tab-completion");
    await fits("completion");
    await page.check("#insight");
    await page.fill("#max_tokens", "8");
    await page.tap("#show-settings");
    await page.fill("#prompt", "long".repeat(80));
    await page.tap("#go");
    await idle(page);
    await page.locator("#output .token").nth(3).tap();
    await page.locator("#attention-text .token").first().waitFor();
    await fits("attention");
    await page.tap("#find");
    await page.locator("#trace-about:not(:empty)").waitFor();
    await fits("the training data");
    await close(page);
  },

  async "light and dark"() {
    const luminance = ([r, g, b]) => {
      const linear = [r, g, b].map((v) => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    for (const colorScheme of ["light", "dark"]) {
      const page = await open({ colorScheme, reducedMotion: "reduce" });
      await answerWith(page, "# A\n\ntext `code` [link](https://example.org)\n\n> quote\n\n```rust\nfn\n```");
      await say(page, "a");
      const colours = (selector) => page.evaluate((which) => {
        const node = document.querySelector(which), rgb = (text) => text.match(/[\d.]+/g).map(Number);
        let behind = node, ground = rgb(getComputedStyle(node).backgroundColor);
        while (ground[3] === 0 && behind.parentElement) { behind = behind.parentElement; ground = rgb(getComputedStyle(behind).backgroundColor); }
        return [rgb(getComputedStyle(node).color), ground];
      }, selector);
      for (const selector of ["#facts", "#state", ".message .who", ".message p", ".message code", ".message a", ".message blockquote p", "figcaption span", "#send", "#tab-chat", "#tab-completion", ".hint", ".item", "footer a", ".stats dt"]) {
        const [text, ground] = (await colours(selector)).map(luminance);
        const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
        check(contrast >= 4.5, `${colorScheme}: the contrast of ${selector} is ${contrast.toFixed(2)}`);
      }
      const shades = await page.evaluate(() => {
        const list = document.querySelector("#attention-legend"), rgb = (text) => text.match(/[\d.]+/g).map(Number);
        return [...list.children].map((node) => [rgb(getComputedStyle(node).color), rgb(getComputedStyle(node).backgroundColor)]);
      });
      for (const [level, pair] of shades.slice(1).entries()) {
        const [text, ground] = pair.map(luminance);
        const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
        check(contrast >= 4.5, `${colorScheme}: the contrast of attention ${level + 1} is ${contrast.toFixed(2)}`);
      }
      const isDark = async () => luminance((await colours("body"))[1]) < 0.2;
      equal(await isDark(), colorScheme === "dark", "as the system wants it");
      equal(await page.evaluate(() => getComputedStyle(document.querySelector("#state"), "::before").animationName), "none", "nothing moves");
      await page.click("#theme");
      equal(await isDark(), colorScheme !== "dark", "switched");
      await page.reload();
      equal(await isDark(), colorScheme !== "dark", "and kept");
      await close(page);
    }
  },

  async "Chinese"() {
    const page = await open({ locale: "zh-CN" });
    equal(await page.evaluate(() => document.documentElement.lang), "zh-CN", "the language of the document");
    const english = await page.evaluate(() => [...document.querySelectorAll("[data-i18n], #applications button")].filter((node) => !/[\u4e00-\u9fff]/.test(node.textContent)).map(({ textContent }) => textContent));
    equal(english.filter((text) => !["Top-p", "Top-k"].includes(text) && !text.startsWith("<")), [], "no English is left");
    await page.fill("#max_tokens", "8");
    await page.fill("#message", "日本");
    await page.evaluate(() => document.querySelector("#message").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true })));
    equal(await page.locator(".message").count(), 0, "Enter that ends a composition sends nothing");
    await page.press("#message", "Enter");
    await page.getByRole("button", { name: "重新生成" }).waitFor();
    await page.click("#language");
    await page.getByRole("button", { name: "Regenerate" }).waitFor();
    await page.reload();
    equal(await page.evaluate(() => document.documentElement.lang), "en", "the choice is kept");
    const [en, zh] = await page.evaluate(async () => { const { WORDS } = await import("/page/i18n.js"); return [Object.keys(WORDS.en), Object.keys(WORDS.zh)]; });
    equal(zh.toSorted(), en.toSorted(), "both languages have all words");
    await close(page);
  },
};

let failed = 0;
const chosen = Object.entries(tests).filter(([name]) => name.includes(process.argv[3] ?? ""));
for (const [name, test] of chosen) {
  current = name;
  try {
    await test();
  } catch (error) {
    failed += 1;
    console.error(`failed: ${error.message.startsWith(name) ? "" : `${name}: `}${error.stack}`);
    if (process.env.PIPELINE_SCREENSHOTS) {
      for (const page of browser.contexts().flatMap((context) => context.pages())) await page.screenshot({ path: join(process.env.PIPELINE_SCREENSHOTS, `${name}.png`) });
    }
    for (const context of browser.contexts()) await context.close();
  }
}
const version = browser.version();
await browser.close();
if (failed) process.exit(1);
console.log(`${checks} checks in ${chosen.length} tests with Chromium ${version}`);

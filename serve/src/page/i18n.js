// The words of the page, in English and Chinese.
import { storage } from "./dom.js";

const LANGUAGE = "pipeline-language";
export const WORDS = {
  en: {
    skip: "Skip to the text", connecting: "Connecting…", connectingState: "connecting", conversations: "Conversations and applications",
    settings: "Settings", theme: "Switch between light and dark", newConversation: "New conversation",
    exportAll: "Export all", deleteAll: "Delete all", work: "Text generation", mode: "Mode", chat: "Chat", completion: "Completion",
    noChat: "This model has no chat template: it continues texts.", close: "Close", examples: "Examples", system: "System prompt",
    systemHint: "What the model should be and do, for the whole conversation", conversation: "Conversation", message: "Message",
    messageHint: "Write a message", send: "Send", stop: "Stop", prompt: "Prompt", promptHint: "Leave empty to start a new document",
    generate: "Generate", generated: "Generated text", outputHint: "The generated text appears here, token by token.", copy: "Copy",
    continue: "Continue", speed: "Speed", first: "First token", generatedTokens: "Generated", promptTokens: "Prompt", key: "API key",
    keyHint: "Kept in this tab only, until it is closed.", reset: "Reset", stops: "Stop strings",
    stopsHint: "Up to four strings separated by spaces; \\n is a line break, \\s a space.", insight: "Show probabilities",
    insightHint: "Colours each token by how much it surprised the model; point at one for the alternatives, choose one for what the model looked at.",
    attention: "Attention", attentionAbout: "What the model looked at when it chose “{token}”: the tokens before it, by weight.",
    attentionTokens: "Tokens by weight of attention; the arrow keys move between them", attentionTop: "Most attention",
    attentionWeight: "{weight} of the attention · token {n}", layer: "Layer", head: "Head", meanOfHeads: "mean of all",
    ofCount: "{n} of {count}",
    trace: "In the training data", traceWhere: "Where it occurs", traceTokens: "tokens", noLicence: "licence not known", piece: "piece {n}",
    traceAbout: "Passages that occur word for word in the training data ({tokens} tokens in {documents} documents). Point at one for where.",
    traceNothing: "No passage of it occurs word for word in the training data ({tokens} tokens in {documents} documents).",
    tokenCount: "{n} token", tokenCounts: "{n} tokens", once: "once in the training data", times: "{n} times in the training data",
    curl: "This request as a curl command", copyCommand: "Copy command", description: "OpenAPI description", health: "Health",
    modelsLink: "Models", base: "Base URL for OpenAI clients:", model: "Model", you: "You", assistant: "Model", edit: "Edit",
    regenerate: "Regenerate", cancel: "Cancel", remove: "Delete", sure: "Delete?", export: "Export", copied: "Copied", refused: "Not allowed",
    empty: "Ask something, or choose an application. Conversations stay in this browser.",
    full: "The browser has no room for this conversation; delete others to keep it.",
    token: "token", tokens: "tokens", perSecond: "tokens/s", ready: "ready", busy: "busy", waiting: "waiting", generating: "generating",
    failed: "failed", offline: "offline", loading: "loading", stopping: "stopping", queue: "waiting, {n} in the queue", needsKey: "key needed",
    atLimit: "Finished: token limit reached", atEnd: "Finished: the model ended the text", stopped: "Stopped",
    unauthorized: "This server needs an API key. Type it into the field “API key”.",
    wrongKey: "The server does not accept this API key. Type another one into the field “API key”.",
    lost: "The connection was lost.", offlineError: "The server cannot be reached.",
    facts: "{parameters} parameters · {family} · context length {context} tokens · {device}",
    applications: "Applications", writing: "Writing", teaching: "Teaching", support: "Customer support", code: "Code", other: "Others",
    fillIn: "Fill in “{field}”.", run: "Start", reasoning: "Reasoning", probability: "probability", bits: "bits of surprise",
    tokenView: "Tokens with probabilities; the arrow keys move between them", likely: "expected", surprising: "surprising",
    max_tokens: "Max tokens", temperature: "Temperature", temperatureHint: "0 always picks the most likely token", top_p: "Top-p",
    repetition_penalty: "Repetition penalty", top_k: "Top-k", top_kHint: "0 for all tokens", seed: "Seed",
    seedHint: "Leave empty for a different text each time", random: "random", useExample: "Use this example", untitled: "Untitled",
  },
  zh: {
    skip: "跳到正文", connecting: "正在连接…", connectingState: "正在连接", conversations: "对话与应用", settings: "设置",
    theme: "切换浅色与深色", newConversation: "新对话", exportAll: "全部导出", deleteAll: "全部删除", work: "文本生成",
    mode: "模式", chat: "对话", completion: "续写", noChat: "该模型没有对话模板，只能续写文本。", close: "关闭", examples: "示例",
    system: "系统提示", systemHint: "整个对话中模型的角色与要求", conversation: "对话", message: "消息", messageHint: "输入消息",
    send: "发送", stop: "停止", prompt: "提示", promptHint: "留空则从新文档开始", generate: "生成", generated: "生成的文本",
    outputHint: "生成的文本将逐个词元显示在这里。", copy: "复制", continue: "继续", speed: "速度", first: "首个词元",
    generatedTokens: "已生成", promptTokens: "提示长度", key: "API 密钥", keyHint: "仅保存在此标签页中，关闭后即清除。", reset: "重置",
    stops: "停止字符串", stopsHint: "最多四个，以空格分隔；\\n 表示换行，\\s 表示空格。", insight: "显示概率",
    insightHint: "按模型的意外程度为每个词元着色；指向词元可查看其他候选，点选则显示模型关注了什么。",
    attention: "注意力", attentionAbout: "模型选择“{token}”时关注的内容：此前的各个词元及其权重。",
    attentionTokens: "按注意力权重显示的词元；用方向键移动", attentionTop: "注意力最高", attentionWeight: "占注意力的 {weight} · 第 {n} 个词元",
    layer: "层", head: "头", meanOfHeads: "所有头的平均", ofCount: "{n} / {count}",
    trace: "训练数据中的出处", traceWhere: "出处", traceTokens: "词元", noLicence: "许可证未知", piece: "第 {n} 段",
    traceAbout: "在训练数据（{documents} 篇文档，共 {tokens} 个词元）中逐字出现的片段；指向片段可查看出处。",
    traceNothing: "训练数据（{documents} 篇文档，共 {tokens} 个词元）中没有逐字出现的片段。",
    tokenCount: "{n} 个词元", tokenCounts: "{n} 个词元", once: "在训练数据中出现一次", times: "在训练数据中出现 {n} 次", curl: "此请求的 curl 命令", copyCommand: "复制命令",
    description: "OpenAPI 描述", health: "状态", modelsLink: "模型列表", base: "OpenAI 客户端的基础地址：", model: "模型", you: "你",
    assistant: "模型", edit: "编辑", regenerate: "重新生成", cancel: "取消", remove: "删除", sure: "确定删除？", export: "导出", copied: "已复制",
    refused: "浏览器不允许", empty: "提一个问题，或选择一个应用。对话只保存在此浏览器中。",
    full: "浏览器空间不足，无法保存此对话；请先删除其他对话。", token: "个词元", tokens: "个词元", perSecond: "词元/秒", ready: "就绪",
    busy: "忙碌", waiting: "等待中", generating: "生成中", failed: "失败", offline: "离线", loading: "加载中", stopping: "正在停止",
    queue: "等待中，队列中有 {n} 个请求", needsKey: "需要密钥", atLimit: "已结束：达到词元上限", atEnd: "已结束：模型结束了文本", stopped: "已停止",
    unauthorized: "此服务器需要 API 密钥，请在“API 密钥”栏中输入。", wrongKey: "服务器不接受此 API 密钥，请在“API 密钥”栏中重新输入。",
    lost: "连接已断开。", offlineError: "无法连接服务器。", facts: "{parameters} 个参数 · {family} · 上下文长度 {context} 个词元 · {device}",
    applications: "应用", writing: "写作", teaching: "教学", support: "客户服务", code: "代码", other: "其他", fillIn: "请填写“{field}”。", run: "开始",
    reasoning: "思考过程", probability: "概率", bits: "比特意外度", tokenView: "带概率的词元；用方向键移动", likely: "意料之中", surprising: "意外",
    max_tokens: "最大词元数", temperature: "温度", temperatureHint: "0 表示总是选择最可能的词元", top_p: "Top-p", repetition_penalty: "重复惩罚",
    top_k: "Top-k", top_kHint: "0 表示所有词元", seed: "随机种子", seedHint: "留空则每次文本不同", random: "随机", useExample: "使用此示例",
    untitled: "未命名",
  },
};

const isLanguage = (name) => Object.hasOwn(WORDS, name ?? "");
const preferred = () => (navigator.languages?.[0] ?? navigator.language ?? "").toLowerCase().startsWith("zh") ? "zh" : "en";
let current = isLanguage(storage.get(LANGUAGE)) ? storage.get(LANGUAGE) : preferred();
const listeners = [];

export const language = () => current;
// Calls back now and whenever the language changes.
export function onLanguage(listener) { listeners.push(listener); listener(); }
export function setLanguage(name) {
  current = name;
  storage.set(LANGUAGE, name);
  translate();
  for (const listener of listeners) listener();
}

// Returns the words of a key; `{name}` is replaced by that value.
export function t(key, values = {}) {
  return (WORDS[current][key] ?? WORDS.en[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// Returns a text of an application in the page's language: it is one string, or one for each language.
export const pick = (text) => typeof text === "string" ? text : text?.[current] ?? text?.en ?? Object.values(text ?? {})[0] ?? "";

// Puts the words of the current language into the document.
export function translate() {
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  const fill = (name, put) => {
    for (const node of document.querySelectorAll(`[data-i18n${name && "-" + name}]`)) {
      put(node, t(node.getAttribute(`data-i18n${name && "-" + name}`)));
    }
  };
  fill("", (node, text) => { node.textContent = text; });
  fill("label", (node, text) => { node.setAttribute("aria-label", text); });
  fill("placeholder", (node, text) => { node.placeholder = text; });
  fill("empty", (node, text) => { node.dataset.empty = text; });
}

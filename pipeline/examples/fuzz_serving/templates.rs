//! Chat templates: those of the program and others, damaged, and random ones of their words.

use serde_json::{Map, Value, json};
use test_support::fuzz::Random;
use tokenizer::{BUILTIN, ChatTemplate, Conversation, RenderOptions};

use crate::Target;

/// What templates are made of.
const WORDS: &[&str] = &[
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{%- ",
    " -%}",
    "{# ",
    " #}",
    "\n",
    " ",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ":",
    "|",
    "'",
    "\"",
    "\\",
    "~",
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    "in",
    "not in",
    "is",
    "is not",
    "and",
    "or",
    "not",
    "if ",
    "elif ",
    "else",
    "endif",
    "for m in messages",
    "for a, b in {'a': 1}.items()",
    "endfor",
    "set x = ",
    "set ns = namespace(a=0)",
    "set ns.a = ns.a + 1",
    "set ns.a = [ns, x]",
    "set ns.a = [ns.a, ns.a]",
    "set ns.a | default(ns)",
    "set x = [x] ~ ns",
    "with x = [ns]",
    "endwith",
    "set x",
    "endset",
    "macro f(a, b=1)",
    "endmacro",
    "f(",
    "call f(1)",
    "endcall",
    "filter upper",
    "endfilter",
    "generation",
    "endgeneration",
    "break",
    "continue",
    "raw",
    "endraw",
    "include 'x'",
    "extends 'x'",
    "block b",
    "endblock",
    "messages",
    "messages[0]",
    "messages[-1:]",
    "messages[::-1]",
    "['role']",
    ".content",
    "tools",
    "bos_token",
    "loop.index0",
    "loop.last",
    "loop.previtem",
    "x",
    "ns.a",
    "none",
    "true",
    "0",
    "-1",
    "9223372036854775807",
    "1e308",
    "range(9)",
    "range(0, 10, 0)",
    "| trim",
    "| tojson",
    "| tojson(indent=2)",
    "| length",
    "| list",
    "| join(',')",
    "| replace('a', 'b')",
    "| default('d', true)",
    "| selectattr('role', 'equalto', 'user')",
    "| map(attribute='content')",
    "| sort",
    "| reverse",
    "| unique",
    "| batch(3)",
    "| slice(0)",
    "| round(300)",
    "| int",
    "| float",
    "| string",
    "| first",
    "| last",
    "| items",
    "| zip(ns)",
    "| groupby('a')",
    "| indent(99999)",
    "| format(x)",
    "| min",
    ".split('a')",
    ".strip()",
    ".startswith('a')",
    ".replace('a', '')",
    ".format(1)",
    ".items()",
    ".get('x')",
    ".rsplit('a', 1)",
    ".title()",
    ".upper()",
    ".join([])",
    "raise_exception('no')",
    "strftime_now('%Y-%m-%d')",
    "strftime_now('%')",
    "is defined",
    "is string",
    "is mapping",
    "is divisibleby(0)",
    "'é日🦀'[1:]",
    "'a' * 9",
    "[1] * 9",
    "1 / 0",
    "1 // 0",
    "1 % 0",
    "2 ** 99",
    "-9223372036854775807 - 2",
    "dict(a=1)",
    "cycler(1, 2)",
    "joiner(',')",
    "self.b()",
    "super()",
    "lipsum()",
    "\u{0}",
    "\u{feff}",
];

/// Templates in the style of published ones.
const TEMPLATES: [&str; 3] = [
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
     {{ raise_exception('roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}\
     {{ '[INST] ' + message['content'] | trim + ' [/INST]' }}{% else %}{% generation %}\
     {{ message['content'] + eos_token }}{% endgeneration %}{% endif %}{% endfor %}",
    "{%- set ns = namespace(found=false, text='') -%}{%- macro show(t) -%}{{ t.name }}: {{ t | tojson(indent=2) }}\
     {%- endmacro -%}{%- for tool in tools or [] -%}{{ show(tool.function) }}{%- set ns.found = true -%}{%- endfor -%}\
     {%- for m in messages | reverse -%}{%- if m.tool_calls -%}{%- for c in m.tool_calls -%}\
     {%- set ns.text = ns.text ~ c.function.arguments -%}{%- endfor -%}{%- endif -%}{%- endfor -%}{{ ns.text }}",
    "{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content.split('</think>')[-1].lstrip() }}\
     {% else %}{% for p in m.content or [] %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}\
     {{ strftime_now('%d %b %Y') }}{% if add_generation_prompt %}<|assistant|>{% endif %}",
];

/// Templates, each rendered with one conversation.
pub struct Templates;

impl Target for Templates {
    fn next(&self, random: &mut Random) -> Vec<u8> {
        if random.one_in(3) {
            let words = 1 + random.below(60);
            return (0..words).flat_map(|_| random.pick(WORDS).bytes()).collect();
        }
        let sources: Vec<&str> = BUILTIN.iter().map(|builtin| builtin.source).chain(TEMPLATES).collect();
        let mut bytes = random.pick(&sources).as_bytes().to_vec();
        random.damage(&mut bytes, WORDS);
        bytes
    }

    fn feed(&self, input: &[u8]) -> bool {
        let Ok(template) = ChatTemplate::new(&String::from_utf8_lossy(input)) else { return false };
        let call = json!({"id": "c", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}});
        let messages = json!([
            {"role": "system", "content": "é<|im_end|>"}, {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "2"},
        ]);
        let Ok(messages) = serde_json::from_value(messages) else { return false };
        let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]);
        let conversation = Conversation { messages, tools: Some(tools), ..Conversation::default() };
        let variables = Map::from_iter([("enable_thinking".to_owned(), Value::Bool(false))]);
        let options = RenderOptions { add_generation_prompt: true, variables, ..RenderOptions::default() };
        template.render(&conversation, &options, [("bos_token", "<s>"), ("eos_token", "</s>")]).is_ok()
    }
}

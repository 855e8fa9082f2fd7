"""Compares `pipeline evaluate` with lm-evaluation-harness: the same task files, items and models.

    pip install lm-eval[hf,api] torch transformers
    cargo build --release --bin pipeline
    python evaluate/tests/beside_lm_eval.py [--model FOLDER] [--items 100]

Writes tiny models of three families with random weights, each with a tokenizer of its own, and seven tasks: every way
of asking that both know. Each task is answered four ways: by lm-evaluation-harness through its Hugging Face backend,
by `pipeline evaluate` on the same folder, and by both through `pipeline serve`. Prints, for each model and task, the
largest difference of a log-likelihood and of a score, and the seconds of both; fails if scores differ by more than
1e-6 (relative to the score where it is above 1), log-likelihoods by more than 1e-3, or texts at all.

`--fixture evaluate/tests/fixtures/lm_eval` writes the model, the tasks and the expected results of `tests/tasks.rs`.
"""

import argparse
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", default="target/release/pipeline")
parser.add_argument("--model", action="append", default=[], help="another model, a folder in Hugging Face layout")
parser.add_argument("--items", type=int, default=100)
parser.add_argument("--batch", type=int, default=16, help="of lm-evaluation-harness")
parser.add_argument("--folder", help="where to write everything; a temporary folder otherwise")
parser.add_argument("--without-server", action="store_true")
parser.add_argument("--fixture", help="where to write the fixture of the tests in Rust; nothing is compared")
arguments = parser.parse_args()
temporary = tempfile.TemporaryDirectory()
folder = pathlib.Path(arguments.fixture or arguments.folder or temporary.name).resolve()
folder.mkdir(parents=True, exist_ok=True)
program = str(pathlib.Path(arguments.program).resolve())
others = [pathlib.Path(model).resolve() for model in arguments.model]
os.chdir(folder)  # Data files are relative to the working directory there, and to the task here.
os.environ |= {"HF_HOME": str(pathlib.Path(temporary.name) / "hf"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ |= {"LMEVAL_LOG_LEVEL": "ERROR", "TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import lm_eval  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

NOUNS = "cat dog bird house river mountain child teacher doctor ship train garden window letter story song".split()
VERBS = "sees finds carries watches follows likes paints opens leaves reaches builds forgets".split()
ADJECTIVES = "small old green quiet heavy bright cold early broken golden".split()


def sentence(rnd):
    noun = lambda: f"the {rnd.choice(ADJECTIVES)} {rnd.choice(NOUNS)}"
    return f"{noun().capitalize()} {rnd.choice(VERBS)} {noun()}"


def items(count, seed):
    rnd = random.Random(seed)
    for i in range(count):
        choices = [f"{rnd.choice(ADJECTIVES)} {rnd.choice(NOUNS)}"[: rnd.choice([5, 9, 30])] + "é" * (i % 3) for _ in range(4)]
        yield {
            "id": i,
            "question": sentence(rnd) + ("  " if i % 5 == 0 else ""),
            "passage": ". ".join(sentence(rnd) for _ in range(2 + i % 4)) + ".",
            "choices": choices,
            "options": {"text": choices, "label": ["A", "B", "C", "D"]},
            "key": rnd.choice("ABCD"),
            "label": rnd.randrange(4),
            "is_so": rnd.random() < 0.5,
            "number": rnd.randrange(1000),
        }


def write_tasks():
    for split, count, seed in [("train", min(40, 2 * arguments.items), 1), ("test", arguments.items, 2)]:
        lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in items(count, seed)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    common = """dataset_path: json
dataset_kwargs:
  data_files:
    train: train.jsonl
    test: test.jsonl
training_split: train
test_split: test
metadata:
  version: 1.0
"""
    (folder / "common_yaml").write_text(common)
    metrics = lambda *names: "metric_list:\n" + "".join(f"  - metric: {name}\n" for name in names)
    tasks = {
        # The likeliest choice, by all normalisations.
        "choices": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: label
doc_to_choice: choices
""" + metrics("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "brier_score"),
        # Random examples of another split.
        "few_shot": """
output_type: multiple_choice
num_fewshot: 3
fewshot_split: train
description: "Answer about item {{id}}.\\n"
doc_to_text: "Q: {{question.strip()}}?\\nA:"
doc_to_target: "{{options.label.index(key)}}"
doc_to_choice: "{{options.text}}"
""" + metrics("acc", "acc_norm"),
        # Letters, with random examples of the same split, the item itself left out.
        "letters": """
output_type: multiple_choice
num_fewshot: 2
fewshot_split: test
doc_to_text: "{{passage|trim}}\\n{% for c in choices %}{{'ABCD'[loop.index0]}}. {{c}}\\n{% endfor %}Answer:"
doc_to_target: key
doc_to_choice: ["A", "B", "C", "D"]
""" + metrics("acc"),
        # Two classes, with the first examples.
        "yes_no": """
output_type: multiple_choice
num_fewshot: 4
fewshot_split: train
fewshot_config:
  sampler: first_n
fewshot_delimiter: "\\n###\\n"
target_delimiter: " -> "
doc_to_text: "{{passage}} {{question}}?"
doc_to_target: is_so
doc_to_choice: ["no", "yes"]
""" + metrics("acc", "f1", "mcc"),
        # The last word.
        "last_word": """
output_type: loglikelihood
doc_to_text: "{{passage[:-1].split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+passage[:-1].split(' ')[-1]}}"
""" + metrics("perplexity", "acc"),
        # The context of each choice.
        "contexts": """
output_type: multiple_choice
doc_to_text: label
doc_to_target: question
doc_to_choice: choices
""" + metrics("acc"),
        # Generated texts, with filters.
        "exact": """
output_type: generate_until
num_fewshot: 2
fewshot_split: train
doc_to_text: "{{question.strip()}} ->"
doc_to_target: "{{'e' if number % 2 else 't'}}"
generation_kwargs:
  until: ["\\n", "."]
  max_gen_toks: 24
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: true
    regexes_to_ignore: ["\\\\s"]
filter_list:
  - name: none
    filter:
      - function: take_first
  - name: letter
    filter:
      - function: regex
        regex_pattern: "([a-z])"
        group_select: -1
      - function: take_first
""",
    }
    for name, text in tasks.items():
        (folder / f"{name}.yaml").write_text(f"task: {name}\ninclude: common_yaml{text}")
    return list(tasks)


def write_model(family):
    """A model with random weights, wide enough that its predictions differ, and a tokenizer; that of Llama places <s>."""
    torch.manual_seed(3)
    bos, eos = ("<s>", "</s>") if family == "llama" else (None, "<|endoftext|>")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    special = [token for token in (bos, eos) if token]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300 if arguments.fixture else 600, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([item["passage"] for item in items(200, 3)], trainer)
    if bos:
        template = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        tokenizer.post_processor = template
    names = {name: token for name, token in (("bos_token", bos), ("eos_token", eos)) if token}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256, **names)
    sizes = {"vocab_size": len(fast), "eos_token_id": fast.eos_token_id, "bos_token_id": fast.bos_token_id}
    hidden = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    hidden |= {"intermediate_size": 128, "max_position_embeddings": 256}
    if arguments.fixture:
        hidden |= {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "tie_word_embeddings": True}
    config = {
        "llama": lambda: transformers.LlamaConfig(**hidden, **sizes),
        "qwen3": lambda: transformers.Qwen3Config(**hidden, head_dim=16, **sizes),
        "gpt2": lambda: transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=256, **sizes),
    }[family]()
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.1)
    model.generation_config.pad_token_id = fast.eos_token_id
    path = folder / family
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


def theirs(tasks, backend, model_arguments):
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    start = time.monotonic()
    found = lm_eval.simple_evaluate(
        model=backend, model_args=model_arguments, tasks=tasks, task_manager=manager, batch_size=arguments.batch,
        device="cpu", log_samples=True, bootstrap_iters=0,
    )
    seconds = time.monotonic() - start
    scores, answers = {}, {}
    for task in tasks:
        for name, value in found["results"][task].items():
            metric, _, filters = name.partition(",")
            if filters and not metric.endswith("_stderr"):
                scores[task, metric, filters] = float(value)
        for sample in found["samples"][task]:
            answers[task, sample["doc_id"]] = [answer[0] for answer in sample["resps"]]
    return scores, answers, seconds


def ours(tasks, model):
    out = folder / "answers.jsonl"
    files = ",".join(str(folder / f"{task}.yaml") for task in tasks)
    command = [program, "evaluate", str(model), "--tasks", files, "--json", "--out", str(out), "--force"]
    start = time.monotonic()
    found = subprocess.run([*command, "--store", str(folder / "store"), "--device", "cpu"], capture_output=True, text=True)
    seconds = time.monotonic() - start
    if found.returncode != 0:
        sys.exit(found.stderr)
    scores = {}
    for task in json.loads(found.stdout)["tasks"]:
        for score in task["scores"]:
            scores[task["name"], score["metric"], score["filter"]] = score["value"]
    answers = {}
    for line in map(json.loads, out.read_text().splitlines()):
        answer = lambda one: one.get("text", (one.get("log_likelihood"), one.get("is_greedy")))
        answers[line["task"], line["item"]] = [answer(one) for one in line["responses"]]
    return scores, answers, seconds


def compare(title, tasks, mine, other):
    """Prints a row for each task, and returns whether both agree."""
    (scores, answers, seconds), (their_scores, their_answers, their_seconds) = mine, other
    agree = scores.keys() == their_scores.keys() and answers.keys() == their_answers.keys()
    if not agree:
        print(sorted(set(scores) ^ set(their_scores)), len(answers), len(their_answers))
    for task in tasks:
        likelihood, texts, greedy = 0.0, 0, 0
        for key in (key for key in answers if key[0] == task):
            assert len(answers[key]) == len(their_answers[key]), key
            for a, b in zip(answers[key], their_answers[key]):
                if isinstance(a, str):
                    texts += a != b
                else:
                    likelihood = max(likelihood, abs(a[0] - b[0]))
                    greedy += a[1] != b[1]
        rows = [(key[1:], scores[key], their_scores[key]) for key in scores if key[0] == task]
        score = max(abs(a - b) / max(1.0, abs(b)) for _, a, b in rows)
        shown = ", ".join(f"{metric}{'' if filters == 'none' else ' ' + filters} {a:.4f}" for (metric, filters), a, _ in rows)
        print(f"| {title} | {task} | {shown} | {score:.1e} | {likelihood:.1e} | {texts + greedy} |")
        agree &= score <= 1e-6 and likelihood <= 1e-3 and texts + greedy == 0
    print(f"| {title} | seconds | ours {seconds:.2f}, lm-evaluation-harness {their_seconds:.2f} | | | |")
    return agree


def served(model):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [program, "serve", str(model), "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=1).read()
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.1)
    sys.exit("the server did not start")


def write_fixture(tasks):
    scores, answers, _ = theirs(tasks, "hf", {"pretrained": str(write_model("llama")), "dtype": "float32"})
    scores = [[*key, value] for key, value in scores.items()]
    answers = [[*key, value] for key, value in answers.items()]
    lines = lambda rows: "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]"
    text = f'{{"lm_eval": "{lm_eval.__version__}", "scores": {lines(scores)}, "answers": {lines(answers)}}}\n'
    (folder / "expected.json").write_text(text)


tasks = write_tasks()
if arguments.fixture:
    sys.exit(write_fixture(tasks))
# Without a context, a server cannot score the first token; both ways of asking for it are left out there.
with_context = [task for task in tasks if task not in ("choices",)]
models = [write_model(family) for family in ("llama", "qwen3", "gpt2")] + others
print(f"lm-evaluation-harness {lm_eval.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
print("| model | task | scores | difference of a score | of a log-likelihood | other answers |\n|---|---|---|---|---|---|")
agree = True
for model in models:
    other = theirs(tasks, "hf", {"pretrained": str(model), "dtype": "float32"})
    agree &= compare(model.name, tasks, ours(tasks, model), other)
    if arguments.without_server:
        continue
    process, address = served(model)
    try:
        backend = {"base_url": f"{address}/v1/completions", "model": "pipeline", "tokenizer": str(model)}
        backend |= {"tokenizer_backend": "huggingface", "max_length": 257}
        backend |= {"add_bos_token": model.name == "llama"}  # As the tokenizer itself does.
        by_server = theirs(with_context, "local-completions", backend)
        pick = lambda found: tuple({k: v for k, v in part.items() if k[0] in with_context} for part in found[:2]) + (found[2],)
        agree &= compare(f"{model.name}, their client", with_context, pick(ours(tasks, model)), by_server)
        agree &= compare(f"{model.name}, our client", with_context, ours(with_context, address), pick(other))
    finally:
        process.terminate()
        process.wait()
sys.exit(0 if agree else "they differ")

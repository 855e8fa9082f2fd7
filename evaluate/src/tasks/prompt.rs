//! From items to prompts: the description, examples with their answers, and the question.

use serde_json::Value;

use super::definition::{Definition, OutputType, SamplerName};
use super::python_random::PythonRandom;
use super::template::{Field, Item, Templates};

/// The seed of lm-evaluation-harness for examples.
const SEED: u32 = 1234;

/// What an item asks, and what is right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prompt {
    /// The text before the answer: one, or one for each choice where the choices are the contexts.
    pub(super) contexts: Vec<String>,
    /// The choices; none without `doc_to_choice`.
    pub(super) choices: Vec<String>,
    /// The answer that follows each context where the choices are the contexts; else none.
    pub(super) continuation: Option<String>,
    pub(super) target: Target,
    /// The question alone, without description and examples.
    pub(super) question: String,
    /// Of code, the program's text before the generated one.
    pub(super) prefix: String,
}

/// What is right.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// One of the choices; none if the data names another.
    Choice(Option<usize>),
    /// Any of some choices.
    Choices(Vec<Option<usize>>),
    /// A text.
    Text(String),
    /// Any of some texts.
    Texts(Vec<String>),
}

/// What makes prompts of items.
pub(super) struct Prompter {
    templates: Templates,
    output_type: OutputType,
    question: Question,
    description: Field,
    /// Of code that does not begin with its question.
    prefix: Option<Field>,
    examples: Examples,
    /// Whether the choices are the contexts, and whether there are several right answers: as the first item has it.
    choices_are_contexts: bool,
    several_targets: bool,
}

/// How a question and its answer are written.
struct Question {
    text: Field,
    target: Field,
    choices: Option<Field>,
    target_delimiter: String,
}

/// The examples of a task.
struct Examples {
    items: Vec<Item>,
    count: usize,
    sampler: SamplerName,
    random: PythonRandom,
    /// Whether the item that is asked is not among its own examples.
    excludes_own: bool,
    question: Question,
    delimiter: String,
}

impl Prompter {
    /// Returns what makes prompts by a definition: `first` is the first item, and `examples` are where examples come
    /// from.
    ///
    /// # Errors
    /// Returns the problem if a setting is missing or fails for the first item.
    pub(super) fn new(
        definition: &Definition,
        first: &Item,
        columns: &[String],
        examples: Vec<Item>,
        count: usize,
    ) -> Result<Self, String> {
        let missing = |key: &str| format!("`{key}` is missing");
        let text = definition.doc_to_text.as_ref().ok_or_else(|| missing("doc_to_text"))?;
        let target = definition.doc_to_target.as_ref().ok_or_else(|| missing("doc_to_target"))?;
        let choices = definition.doc_to_choice.as_ref();
        if definition.output_type == OutputType::MultipleChoice && choices.is_none() {
            return Err(missing("doc_to_choice"));
        }
        let of_examples = &definition.fewshot_config;
        if of_examples.fewshot_indices.is_some() {
            return Err("`fewshot_config.fewshot_indices` is not supported".to_owned());
        }
        let question = |text: &Value, target: &Value, choices: Option<&Value>, delimiter: &str| Question {
            text: Field::of(text, columns),
            target: Field::of(target, columns),
            choices: choices.map(|choices| Field::of(choices, columns)),
            target_delimiter: delimiter.to_owned(),
        };
        let delimiter = &definition.target_delimiter;
        let examples = Examples {
            items: examples,
            count,
            sampler: of_examples.sampler,
            random: PythonRandom::new(SEED),
            excludes_own: of_examples.split.as_ref().or(definition.fewshot_split.as_ref())
                == definition.test_split.as_ref(),
            question: question(
                of_examples.doc_to_text.as_ref().unwrap_or(text),
                of_examples.doc_to_target.as_ref().unwrap_or(target),
                of_examples.doc_to_choice.as_ref().or(choices),
                of_examples.target_delimiter.as_ref().unwrap_or(delimiter),
            ),
            delimiter: of_examples.fewshot_delimiter.as_ref().unwrap_or(&definition.fewshot_delimiter).clone(),
        };
        let mut prompter = Self {
            templates: Templates::new()?,
            output_type: definition.output_type,
            question: question(text, target, choices, delimiter),
            description: Field::of(&Value::from(definition.description.as_str()), columns),
            prefix: definition.code.as_ref().and_then(|code| Some(Field::of(code.prefix.as_ref()?, columns))),
            examples,
            choices_are_contexts: false,
            several_targets: false,
        };
        let (text, target, _) = prompter.question.of(&prompter.templates, first)?;
        prompter.choices_are_contexts = choices.is_some() && text.is_u64();
        prompter.several_targets = target.is_array();
        Ok(prompter)
    }

    /// Returns the prompt of an item. The examples of an item depend on the items before it.
    ///
    /// # Errors
    /// Returns the problem if a template fails, or what it makes does not fit.
    pub(super) fn prompt(&mut self, item: &Item) -> Result<Prompt, String> {
        let description = match &self.description {
            Field::Template(template) if template.is_empty() => String::new(),
            description => as_text(&self.templates.text(description, item, false)?),
        };
        let mut before = description;
        for index in self.examples.next(item)? {
            before += &self.example(&self.examples.items[index])?;
        }
        let (text, target, choices) = self.question.of(&self.templates, item)?;
        if self.choices_are_contexts {
            let contexts = choices.iter().map(|choice| format!("{before}{choice}")).collect();
            let continuation = Some(self.question.target_delimiter.clone() + &as_text(&target));
            let chosen = chosen(&text, &choices);
            let question = chosen.map_or_else(String::new, |chosen| choices[chosen].clone());
            let target = Target::Choice(chosen);
            return Ok(Prompt { contexts, choices, continuation, target, question, prefix: String::new() });
        }
        let Value::String(text) = text else {
            return Err(format!("doc_to_text makes {text}, which is not a text"));
        };
        let target = self.target(&target, &choices)?;
        let prefix = match &self.prefix {
            Some(prefix) => as_text(&self.templates.text(prefix, item, false)?),
            None => text.clone(),
        };
        Ok(Prompt { contexts: vec![before + &text], choices, continuation: None, target, question: text, prefix })
    }

    fn target(&self, target: &Value, choices: &[String]) -> Result<Target, String> {
        let wrong = || format!("doc_to_target makes {target}, which does not fit the output type");
        match (self.output_type, target) {
            (OutputType::MultipleChoice, Value::Array(targets)) if self.several_targets => {
                Ok(Target::Choices(targets.iter().map(|target| chosen(target, choices)).collect()))
            }
            (OutputType::MultipleChoice, Value::Number(_) | Value::String(_)) => {
                Ok(Target::Choice(chosen(target, choices)))
            }
            (OutputType::Loglikelihood, Value::String(text)) => Ok(Target::Text(text.clone())),
            (OutputType::MultipleChoice | OutputType::Loglikelihood, _) => Err(wrong()),
            (OutputType::GenerateUntil, _) if self.question.choices.is_some() => {
                let index = target.as_u64().and_then(|index| choices.get(index as usize)).ok_or_else(wrong)?;
                Ok(Target::Text(index.clone()))
            }
            (OutputType::GenerateUntil, Value::Array(targets)) if self.several_targets => {
                Ok(Target::Texts(targets.iter().map(as_text).collect()))
            }
            (OutputType::GenerateUntil, target) if self.several_targets => Ok(Target::Texts(vec![as_text(target)])),
            (OutputType::GenerateUntil, target) => Ok(Target::Text(as_text(target))),
        }
    }

    /// Returns an example with its answer and what separates it from the next text.
    fn example(&self, item: &Item) -> Result<String, String> {
        let Examples { question, delimiter, .. } = &self.examples;
        let (text, target, choices) = question.of(&self.templates, item)?;
        let text = match &text {
            Value::String(text) => text,
            index if self.choices_are_contexts => {
                chosen(index, &choices).map(|chosen| &choices[chosen]).ok_or("an example has no such choice")?
            }
            other => return Err(format!("doc_to_text makes {other} of an example, which is not a text")),
        };
        let answer = match &target {
            Value::Null => None,
            Value::Number(_) if question.choices.is_some() && !self.choices_are_contexts => {
                let chosen = chosen(&target, &choices).ok_or("the answer of an example is not one of its choices")?;
                Some(choices[chosen].clone())
            }
            Value::Array(targets) => targets.first().map(as_text),
            other => Some(as_text(other)).filter(|answer| !answer.is_empty()),
        };
        Ok(match answer {
            Some(answer) => format!("{text}{}{answer}{delimiter}", question.target_delimiter),
            None => text.clone(),
        })
    }
}

impl Question {
    /// Returns the text, the target and the choices.
    fn of(&self, templates: &Templates, item: &Item) -> Result<(Value, Value, Vec<String>), String> {
        let has_choices = self.choices.is_some();
        let choices = self.choices.as_ref().map(|choices| templates.choices(choices, item)).transpose()?;
        Ok((
            templates.text(&self.text, item, has_choices)?,
            templates.target(&self.target, item, has_choices)?,
            choices.unwrap_or_default(),
        ))
    }
}

impl Examples {
    /// Returns the indices of the examples of the next item.
    fn next(&mut self, item: &Item) -> Result<Vec<usize>, String> {
        let (count, others) = (self.count, self.items.len());
        if count == 0 {
            return Ok(Vec::new());
        }
        let is_other = |index: &usize| !self.excludes_own || self.items[*index] != *item;
        let enough = |available: usize, needed: usize| {
            let problem = || format!("num_fewshot is {count}, but there are only {available} examples to choose from");
            if available < needed { Err(problem()) } else { Ok(()) }
        };
        let pool: Vec<usize> = (0..others).filter(is_other).collect();
        enough(pool.len(), count)?;
        if self.sampler == SamplerName::First {
            return Ok(pool[..count].to_vec());
        }
        if !self.excludes_own {
            return Ok(self.random.sample(others, count));
        }
        // As in lm-evaluation-harness: one more, in case it is the item itself; again if it was drawn several times.
        enough(others, count + 1)?;
        let drawn = self.random.sample(others, count + 1);
        let drawn: Vec<usize> = drawn.into_iter().filter(|index| pool.contains(index)).take(count).collect();
        if drawn.len() == count {
            return Ok(drawn);
        }
        Ok(self.random.sample(pool.len(), count).into_iter().map(|index| pool[index]).collect())
    }
}

/// Returns the choice that an index or a text names.
fn chosen(target: &Value, choices: &[String]) -> Option<usize> {
    match target {
        Value::String(text) => choices.iter().position(|choice| choice == text),
        number => number.as_u64().map(|index| index as usize).filter(|index| *index < choices.len()),
    }
}

/// Returns a value as Python writes it.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn items(count: usize) -> Vec<Item> {
        let item = |i: usize| json!({"q": format!("q{i}"), "a": i % 2, "c": ["no", "yes"], "t": format!("t{i}")});
        (0..count).map(|i| item(i).as_object().unwrap().clone()).collect()
    }

    fn prompter(definition: &Value, count: usize) -> Result<Prompter, String> {
        let definition: Definition = serde_json::from_value(definition.clone()).unwrap();
        let (items, columns) = (items(8), ["q", "a", "c", "t"].map(str::to_owned));
        Prompter::new(&definition, &items[0], &columns, items.clone(), count)
    }

    /// The expected texts are the contexts of lm-evaluation-harness 0.4.13, from `evaluate/tests/beside_lm_eval.py`.
    #[test]
    fn prompts_have_description_examples_and_question() {
        let definition = json!({
            "output_type": "multiple_choice", "test_split": "test", "fewshot_split": "test",
            "doc_to_text": "{{q}}?", "doc_to_target": "a", "doc_to_choice": "c", "description": "D.\n",
            "fewshot_config": {"sampler": "first_n"},
        });
        let mut first = prompter(&definition, 2).unwrap();
        let prompt = first.prompt(&items(8)[0]).unwrap();
        assert_eq!(prompt.contexts, ["D.\nq1? yes\n\nq2? no\n\nq0?"]);
        assert_eq!((prompt.choices, prompt.target), (vec!["no".to_owned(), "yes".to_owned()], Target::Choice(Some(0))));
        let mut none = prompter(&definition, 0).unwrap();
        assert_eq!(none.prompt(&items(8)[3]).unwrap().contexts, ["D.\nq3?"]);
        let error = prompter(&definition, 8).unwrap().prompt(&items(8)[0]).unwrap_err();
        assert_eq!(error, "num_fewshot is 8, but there are only 7 examples to choose from");
    }

    #[test]
    fn random_examples_are_those_of_python() {
        let definition = json!({
            "output_type": "generate_until", "test_split": "test", "fewshot_split": "train",
            "doc_to_text": "q", "doc_to_target": "t", "target_delimiter": "=", "fewshot_delimiter": ";",
        });
        let mut random = prompter(&definition, 3).unwrap();
        let mut python = PythonRandom::new(1234);
        for item in &items(8) {
            let expected: Vec<String> = python.sample(8, 3).iter().map(|i| format!("q{i}=t{i};")).collect();
            let expected = expected.concat() + item["q"].as_str().unwrap();
            assert_eq!(random.prompt(item).unwrap().contexts, [expected]);
        }
    }

    #[test]
    fn choices_may_be_the_contexts() {
        let definition = json!({
            "output_type": "multiple_choice", "doc_to_text": "a", "doc_to_target": "t", "doc_to_choice": "c",
        });
        let prompt = prompter(&definition, 0).unwrap().prompt(&items(8)[1]).unwrap();
        assert_eq!(prompt.contexts, ["no", "yes"]);
        assert_eq!((prompt.continuation.as_deref(), prompt.target), (Some(" t1"), Target::Choice(Some(1))));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |definition: Value, expected: &str| {
            let error = prompter(&definition, 0).and_then(|mut prompter| prompter.prompt(&items(8)[0]));
            assert_eq!(error.unwrap_err(), expected);
        };
        check(json!({"doc_to_target": "a"}), "`doc_to_text` is missing");
        check(
            json!({"output_type": "multiple_choice", "doc_to_text": "q", "doc_to_target": "a"}),
            "`doc_to_choice` is missing",
        );
        check(
            json!({"output_type": "loglikelihood", "doc_to_text": "q", "doc_to_target": "a"}),
            "doc_to_target makes 0, which does not fit the output type",
        );
        check(
            json!({"doc_to_text": "c", "doc_to_target": "a"}),
            "doc_to_text makes [\"no\",\"yes\"], which is not a text",
        );
    }
}

//! A model behind an HTTP address: any server with OpenAI's completions API.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::local::cut;
use super::{Scorer, TaskRequest, TaskResponse, TaskSampling};
use crate::Error;

/// The number of prompts of a request.
const BATCH: usize = 16;

/// The time that a server has for a request. Heuristic: sixteen long prompts on a slow machine.
const TIMEOUT: Duration = Duration::from_mins(10);

/// What is wrong with a server that scores no prompts.
const NO_ECHO: &str = "it does not give the log probabilities of a prompt, for which the server must support `echo` \
                       with `logprobs`: llama.cpp's does not, but its GGUF file can be evaluated, and servers can be \
                       asked tasks that generate text";

/// A model behind an HTTP address.
///
/// The server tokenizes, so a token that stands across the end of a context counts towards the continuation. An address
/// without a path is that of the server's root, as `http://127.0.0.1:8080`.
#[derive(Debug)]
pub struct HttpModel {
    agent: ureq::Agent,
    address: String,
    key: Option<String>,
    name: String,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    index: usize,
    text: String,
    /// Of the completions API, [`Logprobs`]; llama.cpp's server gives those of the chat API.
    logprobs: Option<Value>,
}

#[derive(Deserialize)]
struct Logprobs {
    tokens: Vec<String>,
    #[serde(rename = "token_logprobs")]
    own: Vec<Option<f64>>,
    #[serde(rename = "top_logprobs")]
    top: Option<Vec<Option<Map<String, Value>>>>,
    text_offset: Vec<usize>,
}

impl HttpModel {
    /// Returns the model with this name at an address, else the first that the server lists; `key` is the server's key,
    /// if it wants one.
    ///
    /// # Errors
    /// Returns an error if the server does not answer.
    pub fn open(address: &str, name: Option<&str>, key: Option<String>) -> Result<Self, Error> {
        let agent =
            ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build().new_agent();
        let address = address.trim_end_matches('/');
        let address = address.strip_suffix("/completions").unwrap_or(address);
        let has_path = address.splitn(4, '/').nth(3).is_some();
        let address = if has_path { address.to_owned() } else { format!("{address}/v1") };
        let mut model = Self { agent, address, key, name: String::new() };
        model.name = if let Some(name) = name {
            name.to_owned()
        } else {
            let models = model.call("models", None)?;
            let first = models["data"][0]["id"].as_str().map(str::to_owned);
            first.ok_or_else(|| model.problem("models", "it lists no model".to_owned()))?
        };
        Ok(model)
    }

    /// Returns the address and the name of the model.
    pub fn place(&self) -> (&str, &str) {
        (&self.address, &self.name)
    }

    fn problem(&self, route: &str, problem: String) -> Error {
        Error::Server { address: format!("{}/{route}", self.address), problem }
    }

    fn call(&self, route: &str, body: Option<&Value>) -> Result<Value, Error> {
        let address = format!("{}/{route}", self.address);
        let authorization = self.key.iter().map(|key| format!("Bearer {key}"));
        let answer = if let Some(body) = body {
            let request = self.agent.post(&address);
            authorization.fold(request, |request, key| request.header("Authorization", key)).send_json(body)
        } else {
            let request = self.agent.get(&address);
            authorization.fold(request, |request, key| request.header("Authorization", key)).call()
        };
        let mut answer = answer.map_err(|error| self.problem(route, error.to_string()))?;
        let text = answer.body_mut().with_config().limit(1 << 30).read_to_string();
        let text = text.map_err(|error| self.problem(route, error.to_string()))?;
        if !answer.status().is_success() {
            let shown: String = text.chars().take(300).collect();
            return Err(self.problem(route, format!("status {}: {shown}", answer.status().as_u16())));
        }
        serde_json::from_str(&text).map_err(|error| self.problem(route, format!("its answer is not JSON: {error}")))
    }

    fn complete(&self, mut body: Value, prompts: &[String]) -> Result<Vec<Choice>, Error> {
        body["model"] = self.name.as_str().into();
        body["prompt"] = prompts.into();
        let answer: Answer = serde_json::from_value(self.call("completions", Some(&body))?)
            .map_err(|error| self.problem("completions", format!("its answer has another shape: {error}")))?;
        let mut choices = answer.choices;
        choices.sort_by_key(|choice| choice.index);
        if choices.len() != prompts.len() {
            let problem = format!("it returns {} choices for {} prompts", choices.len(), prompts.len());
            return Err(self.problem("completions", problem));
        }
        Ok(choices)
    }

    fn likelihood(&self, choice: &Choice, context: &str, continuation: &str) -> Result<TaskResponse, Error> {
        let wrong = |text: &str| self.problem("completions", text.to_owned());
        let logprobs = choice.logprobs.as_ref().ok_or_else(|| wrong("it gives no log probabilities"))?;
        let logprobs = Logprobs::deserialize(logprobs).map_err(|_| wrong(NO_ECHO))?;
        // As on this machine, spaces at the end of the context go to the continuation.
        let start = context.trim_end().chars().count();
        let end = context.chars().count() + continuation.chars().count();
        let (mut log_likelihood, mut is_greedy, mut scored) = (0.0, true, 0);
        for (i, token) in logprobs.own.iter().enumerate() {
            let from = logprobs.text_offset.get(i).copied().unwrap_or(usize::MAX);
            let to = logprobs.text_offset.get(i + 1).copied().unwrap_or(end);
            // The token that the server adds after the prompt begins at its end.
            if from >= end || to <= start {
                continue;
            }
            let token = token.ok_or_else(|| {
                wrong("it gives no log probability of the first token, so a task needs a text before each answer")
            })?;
            log_likelihood += token;
            scored += 1;
            let others = logprobs.top.as_ref().and_then(|top| top.get(i)?.as_ref());
            let others = others.ok_or_else(|| wrong("it gives no `top_logprobs`"))?;
            is_greedy &= others.values().filter_map(Value::as_f64).all(|other| other <= token);
        }
        if scored == 0 || logprobs.tokens.len() != logprobs.own.len() {
            return Err(wrong(NO_ECHO));
        }
        Ok(TaskResponse::Likelihood { log_likelihood, is_greedy })
    }
}

impl Scorer for HttpModel {
    fn answer(
        &mut self,
        requests: &[TaskRequest],
        on_response: &mut dyn FnMut(usize, TaskResponse) -> bool,
    ) -> Result<(), Error> {
        let mut indices: Vec<usize> = (0..requests.len()).collect();
        // Those of one seed beside each other, since a request to the server has one.
        indices.sort_by_key(|index| match &requests[*index] {
            TaskRequest::Generate { sampling: Some(sampling), .. } => sampling.seed + 1,
            _ => 0,
        });
        let same = |a: &usize, b: &usize| match (&requests[*a], &requests[*b]) {
            (TaskRequest::Likelihood { .. }, TaskRequest::Likelihood { .. }) => true,
            (
                TaskRequest::Generate { until, max_tokens, sampling, .. },
                TaskRequest::Generate { until: other, max_tokens: of_other, sampling: sampling_of_other, .. },
            ) => until == other && max_tokens == of_other && sampling == sampling_of_other,
            _ => false,
        };
        for batch in indices.chunk_by(same).flat_map(|alike| alike.chunks(BATCH)) {
            let text = |index: &usize| match &requests[*index] {
                TaskRequest::Likelihood { context, continuation } => format!("{context}{continuation}"),
                TaskRequest::Generate { context, .. } => context.clone(),
            };
            let prompts: Vec<String> = batch.iter().map(text).collect();
            let body = match &requests[batch[0]] {
                TaskRequest::Likelihood { .. } => {
                    json!({"max_tokens": 1, "logprobs": 1, "echo": true, "temperature": 0})
                }
                TaskRequest::Generate { until, max_tokens, sampling, .. } => {
                    let mut body = json!({"max_tokens": max_tokens, "stop": until, "temperature": 0});
                    if let Some(TaskSampling { temperature, top_p, seed }) = sampling {
                        body["temperature"] = (*temperature).into();
                        body["top_p"] = (*top_p).into();
                        body["seed"] = (*seed).into();
                    }
                    body
                }
            };
            for (choice, index) in self.complete(body, &prompts)?.iter().zip(batch) {
                let response = match &requests[*index] {
                    TaskRequest::Likelihood { context, continuation } => {
                        self.likelihood(choice, context, continuation)?
                    }
                    TaskRequest::Generate { until, .. } => {
                        TaskResponse::Text { text: cut(&choice.text, until).0.to_owned() }
                    }
                };
                if !on_response(*index, response) {
                    return Err(Error::Interrupted);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> HttpModel {
        let agent = ureq::Agent::config_builder().build().new_agent();
        HttpModel { agent, address: "http://server/v1".to_owned(), key: None, name: "m".to_owned() }
    }

    fn likelihood(choice: &Value, context: &str, continuation: &str) -> Result<TaskResponse, String> {
        let choice: Choice = serde_json::from_value(choice.clone()).unwrap();
        model().likelihood(&choice, context, continuation).map_err(|error| error.to_string())
    }

    #[test]
    fn the_tokens_of_the_continuation_are_summed() {
        // "The c" and "at sat": the token " cat" stands across the end of the context. The last token is the server's.
        let choice = json!({"index": 0, "text": "The cat sat.", "logprobs": {
            "tokens": ["The", " cat", " sat", "."], "token_logprobs": [null, -1.5, -0.25, -9.0],
            "top_logprobs": [null, {" dog": -0.5, " cat": -1.5}, {" sat": -0.25}, {"!": -0.1, ".": -9.0}],
            "text_offset": [0, 3, 7, 11],
        }});
        let check = |context: &str, continuation: &str, log_likelihood: f64, is_greedy: bool| {
            let expected = TaskResponse::Likelihood { log_likelihood, is_greedy };
            assert_eq!(likelihood(&choice, context, continuation), Ok(expected), "{context:?}");
        };
        check("The cat", " sat", -0.25, true);
        check("The", " cat sat", -1.75, false);
        check("The c", "at sat", -1.75, false);
        check("The cat ", "sat", -0.25, true);
        let error = likelihood(&choice, "", "The cat sat").unwrap_err();
        assert!(error.contains("no log probability of the first token"), "{error}");
        let error = likelihood(&json!({"index": 0, "text": "x", "logprobs": null}), "a", "b").unwrap_err();
        assert_eq!(
            error,
            "the server at http://server/v1/completions cannot be evaluated: it gives no log probabilities"
        );
        let silent = json!({"index": 0, "text": "x", "logprobs": {
            "tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": [{"x": -1.0}], "text_offset": [9],
        }});
        // As llama.cpp's server answers.
        let of_chat = json!({"index": 0, "text": "x", "logprobs": {
            "content": [{"id": 1, "token": "x", "bytes": [120], "logprob": -1.0, "top_logprobs": []}],
        }});
        for choice in [silent, of_chat] {
            let error = likelihood(&choice, "The", " cat").unwrap_err();
            assert!(error.contains("must support `echo`") && error.contains("GGUF file"), "{error}");
        }
    }
}

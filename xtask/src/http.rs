//! The few requests xtask sends itself, to a server on this machine.

use std::time::Duration;

use anyhow::{Context, Result};
use ureq::Agent;

/// Longer than any answer takes, short enough to not look hung.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A client that keeps its connections, as a real one does.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
}

/// Status and body of a response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

// === impl Client ===

impl Client {
    pub(crate) fn new() -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(ANSWER_WITHIN))
            .http_status_as_error(false)
            // The user's proxy doesn't know this machine's ports.
            .proxy(None)
            .build();
        Self { agent: config.into() }
    }

    pub(crate) fn get(&self, url: &str) -> Result<Answer> {
        let response = self.agent.get(url).call();
        read(response).with_context(|| format!("GET {url} failed"))
    }

    pub(crate) fn post(&self, url: &str, content_type: &str, body: &[u8]) -> Result<Answer> {
        let response = self.agent.post(url).header("content-type", content_type).send(body);
        read(response).with_context(|| format!("POST {url} failed"))
    }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer> {
    let mut response = response?;
    Ok(Answer { status: response.status().as_u16(), body: response.body_mut().read_to_string()? })
}

//! A client that shows all of an answer, whatever its status.

use serde_json::Value;
use ureq::Agent;
use ureq::http;

use super::patience;

/// A request in the making.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    method: String,
    body: Vec<u8>,
    headers: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Sent {
    /// POSTs a body without a content type.
    pub(crate) fn body(body: impl AsRef<[u8]>) -> Self {
        Self { method: "POST".to_owned(), body: body.as_ref().to_vec(), headers: Vec::new() }
    }

    pub(crate) fn get() -> Self {
        Self::body("").method("GET")
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a key, if there is one.
    pub(crate) fn bearer(self, key: Option<&str>) -> Self {
        match key {
            Some(key) => self.header("authorization", &format!("Bearer {key}")),
            None => self,
        }
    }

    pub(crate) fn content_type(self, value: &str) -> Self {
        self.header("content-type", value)
    }

    /// Sends it, and gives what went wrong on the way where no answer came.
    pub(crate) fn try_send(&self, agent: &Agent, url: &str) -> Result<Answer, ureq::Error> {
        let mut request = http::Request::builder().method(self.method.as_str()).uri(url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response = match self.method.as_str() {
            "GET" | "DELETE" | "HEAD" | "OPTIONS" => agent.run(request.body(()).unwrap())?,
            _ => agent.run(request.body(self.body.as_slice()).unwrap())?,
        };
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body: response.body_mut().read_to_vec()?,
        })
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header; fails where it came more than once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came twice: {:?}", self.headers);
        value
    }

    /// Asserts an error in the contract's form, and gives its message.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json = self.json();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["code", "type", "message"]);
        assert_eq!((json["code"].as_u64(), json["type"].as_str()), (Some(u64::from(status)), Some(kind)), "{json}");
        json["message"].as_str().unwrap().to_owned()
    }

    /// Asserts success, and gives the body.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        self.text()
    }
}

/// A client that takes every status for an answer.
pub(crate) fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(patience()))
        .max_idle_connections_per_host(64)
        .build();
    config.into()
}

/// A form with parts `(name, content type, bytes)`; a part with a content type is sent as a file.
pub(crate) fn multipart(parts: &[(&str, &str, &[u8])]) -> Sent {
    const BOUNDARY: &str = "between-the-parts";
    let mut body = Vec::new();
    for (name, content_type, bytes) in parts {
        body.extend(format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"").bytes());
        if !content_type.is_empty() {
            body.extend(format!("; filename=\"{name}.bin\"\r\ncontent-type: {content_type}").bytes());
        }
        body.extend(b"\r\n\r\n");
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    Sent::body(body).content_type(&format!("multipart/form-data; boundary={BOUNDARY}"))
}

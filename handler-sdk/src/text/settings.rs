//! What `handler:` of model-config.yaml says to a handler of texts.

use serde_json::Value as Json;

use crate::Context;
use crate::Error;
use crate::Result;

/// A setting of `handler:` that is a whole number of at least `least`; `None` where it isn't set.
pub(super) fn number(context: &Context, name: &str, least: i64) -> Result<Option<i64>> {
    match &context.config()["handler"][name] {
        Json::Null => Ok(None),
        value => match value.as_i64() {
            Some(number) if number >= least => Ok(Some(number)),
            _ => Err(wrong(name, value, &format!("a whole number of at least {least}"))),
        },
    }
}

/// A setting of `handler:` that is a name.
pub(super) fn name(context: &Context, name: &str, default: &str) -> Result<String> {
    match &context.config()["handler"][name] {
        Json::Null => Ok(default.to_owned()),
        Json::String(text) if !text.is_empty() => Ok(text.clone()),
        value => Err(wrong(name, value, "a name")),
    }
}

/// That a setting has a value that it can't have.
pub(super) fn wrong(name: &str, value: &Json, needed: &str) -> Error {
    Error::new(format!("model-config.yaml has `handler: {{{name}: {value}}}`, which must be {needed}"))
}

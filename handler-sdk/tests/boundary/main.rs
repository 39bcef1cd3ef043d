//! The boundary in one process: what a handler does wrong, and all that crosses, through the same glue as in a server.

#![allow(clippy::unwrap_used)] // The helpers are part of the tests; clippy exempts only the test functions themselves.

use handler_sdk::Answer;
use handler_sdk::Result;

/// A handler type whose one method is written in place.
macro_rules! handler {
    ($name:ident { $($method:item)* }) => {
        #[derive(Debug, Default)]
        struct $name;
        impl Handler for $name {
            $($method)*
        }
    };
}

mod faults;
mod models;
mod place;
mod state;
mod steps;
mod verbs;
mod words;

pub(crate) fn text(answer: Result<Answer>) -> String {
    String::from_utf8(answer.unwrap().body).unwrap()
}

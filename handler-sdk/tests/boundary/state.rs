//! State that passes from old objects to a new one.

use std::cell::RefCell;

use handler_sdk::Level;
use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use serde_json::json;

use crate::text;

/// Answers with all bodies so far, in the order in which they came.
#[derive(Debug, Default)]
struct Notebook {
    lines: RefCell<Vec<String>>,
    tested: RefCell<bool>,
    limit: usize,
}

impl Handler for Notebook {
    const STATE_VERSION: Option<u32> = Some(0);

    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.limit = context.config()["limit"].as_u64().unwrap_or(9) as usize;
        Ok(())
    }

    fn self_test(&self, _: &Context) -> Result<()> {
        assert!(self.lines.borrow().is_empty(), "the self-test comes before the state");
        self.tested.replace(true);
        Ok(())
    }

    fn export_state(&self, context: &Context) -> Result<Vec<u8>> {
        let lines = self.lines.borrow();
        context.log(Level::Info, format!("{} lines leave", lines.len()));
        if lines.iter().any(|line| line == "torn") {
            return Err(Error::new("a page is torn"));
        }
        Ok(lines.join("\n").into_bytes())
    }

    fn import_state(&mut self, version: u32, state: &[u8], context: &Context) -> Result<()> {
        assert!(*self.tested.borrow());
        context.log(Level::Info, format!("version {version} comes"));
        let lines = self.lines.get_mut();
        lines.extend(std::str::from_utf8(state)?.lines().map(str::to_owned));
        match lines.len() {
            count if count > self.limit => Err(Error::new(format!("{count} lines, there is room for {}", self.limit))),
            _ => Ok(()),
        }
    }

    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        let note = |request: &Request| -> Result<Response> {
            self.lines.borrow_mut().push(request.input()?.text()?.to_owned());
            Ok(Response::text(self.lines.borrow().join(" ")))
        };
        Ok(batch.iter().map(|request| note(request).into()).collect())
    }
}

fn written(lines: &[&str]) -> handler_sdk::testing::Running {
    let mut notebook = Host::new().start::<Notebook>().unwrap();
    for line in lines {
        notebook.predict(Sent::body(*line)).unwrap();
    }
    notebook
}

#[test]
fn a_new_object_goes_on_where_the_old_one_stood() {
    let mut old = written(&["a", "b"]);
    let (version, state) = old.export_state().unwrap();
    assert_eq!((version, state.as_slice()), (0, b"a\nb".as_slice()));
    assert_eq!(old.log(), [(Level::Info, "2 lines leave".to_owned())]);
    let mut new = Host::new().state(version, state).start::<Notebook>().unwrap();
    assert_eq!(new.log(), [(Level::Info, "version 0 comes".to_owned())]);
    assert_eq!(text(new.predict(Sent::body("c"))), "a b c");
    assert_eq!(text(old.predict(Sent::body("d"))), "a b d", "the old object keeps its state");
}

#[test]
fn several_old_objects_may_hand_their_state_to_one() {
    let states = [written(&["a"]), written(&[]), written(&["b", "c"])].map(|mut old| old.export_state().unwrap());
    let host = states.into_iter().fold(Host::new(), |host, (version, state)| host.state(version, state));
    assert_eq!(text(host.start::<Notebook>().unwrap().predict(Sent::body("d"))), "a b c d");
}

#[test]
fn the_new_code_may_refuse_and_the_old_may_fail() {
    let (version, state) = written(&["a", "b"]).export_state().unwrap();
    let error =
        Host::new().config(json!({"limit": 1})).state(version, state).start::<Notebook>().map(drop).unwrap_err();
    assert_eq!(error.log_text(), "2 lines, there is room for 1");
    let error = Host::new().state(5, [0xff]).start::<Notebook>().map(drop).unwrap_err();
    assert!(error.log_text().contains("invalid utf-8"), "{error}");
    let error = written(&["a", "torn"]).export_state().unwrap_err();
    assert_eq!(error.log_text(), "a page is torn");
}

handler!(Forgets {
    fn export_state(&self, _: &Context) -> Result<Vec<u8>> {
        unreachable!("a handler without a version is never asked")
    }

    fn import_state(&mut self, _: u32, _: &[u8], _: &Context) -> Result<()> {
        unreachable!("a handler without a version is never told")
    }
});

#[test]
fn a_handler_without_a_version_hands_nothing_over() {
    let words = "the handler takes part in no hand-over of state: it has no STATE_VERSION";
    let error = Host::new().start::<Forgets>().unwrap().export_state().unwrap_err();
    assert_eq!(error.log_text(), words);
    let error = Host::new().state(1, "x").start::<Forgets>().map(drop).unwrap_err();
    assert_eq!(error.log_text(), words);
}

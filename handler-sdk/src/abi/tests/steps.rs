//! The steps one by one: in whichever order, by whichever object and on whichever thread a host calls them.

use std::cell::RefCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;

use super::Bare;
use super::Keeps;
use super::exported;
use super::exported_by_an_old_plugin;
use super::initialized;
use crate::Answer;
use crate::Context;
use crate::DType;
use crate::Error;
use crate::Handler;
use crate::Level;
use crate::MetricKind;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::abi::STAGE_METRICS;
use crate::abi::instance::CallError;
use crate::abi::instance::Clients;
use crate::abi::instance::HostServices;
use crate::abi::instance::Instance;
use crate::abi::prepared::Prepared;
use crate::abi::raw::RawBatch;
use crate::abi::raw::RawDoor;
use crate::abi::raw::RawEvent;
use crate::abi::raw::RawField;
use crate::abi::raw::RawRequest;
use crate::abi::raw::RawVerb;

/// Writes down which step of which object was called; what the request says may go wrong.
#[derive(Default)]
struct Steps {
    number: usize,
}

/// A handler that replaces `handle`, by the one of another that doesn't.
#[derive(Default)]
struct PassesOn(Steps);

/// Takes the metrics, and the lines of the log.
#[derive(Default)]
struct Hears {
    lines: RefCell<Vec<String>>,
    stages: RefCell<Vec<(String, f64)>>,
}

struct Everybody;

/// A batch's requests with what they borrow.
struct Sent {
    fields: Vec<[RawField<'static>; 1]>,
}

static OBJECTS: AtomicUsize = AtomicUsize::new(0);

fn says(request: &Request, words: &str) -> bool {
    request.body() == words.as_bytes()
}

impl Handler for Steps {
    fn initialize(&mut self, _: &Context) -> Result<()> {
        self.number = OBJECTS.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
        context.log(Level::Info, format!("preprocess by {}", self.number));
        assert!(!says(request, "panics in preprocess"), "in preprocess");
        if says(request, "is bad") {
            return Err(Error::bad_request("it is bad"));
        }
        let number = request.body().len() as i64;
        Ok(Value::List(vec![Tensor::from_slice(&[1], &[number])?.into()]))
    }

    fn inference(&self, inputs: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        context.log(Level::Info, format!("inference of {} by {}", inputs.len(), self.number));
        assert!(inputs.len() != 7, "seven");
        if inputs.len() == 6 {
            return Err(Error::new("six"));
        }
        Ok(inputs)
    }

    fn postprocess(&self, output: Value, request: &Request, context: &Context) -> Result<Response> {
        context.log(Level::Info, format!("postprocess by {}", self.number));
        assert!(!says(request, "panics in postprocess"), "in postprocess");
        let Value::List(items) = output else { return Err(Error::new("not what preprocess made")) };
        let number = items[0].as_tensor()?.to_f64()?[0];
        Ok(Response::text(format!("{number} {}", String::from_utf8_lossy(request.body()))))
    }
}

impl Handler for PassesOn {
    crate::pass_on!(0: initialize, preprocess, inference, postprocess, handle);
}

impl HostServices for Hears {
    fn log(&self, _: Level, message: &str) {
        self.lines.borrow_mut().push(message.to_owned());
    }
    fn metric(&self, kind: MetricKind, name: &str, value: f64, unit: &str, _: &[(&str, &str)]) {
        assert_eq!((kind, unit), (MetricKind::Gauge, "ms"));
        self.stages.borrow_mut().push((name.to_owned(), value));
    }
    fn forward(&self, _: &str, _: &[RawEvent<'_>], _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        Err("no model".to_owned())
    }
    fn weights(&self, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        Err("no weights".to_owned())
    }
}

impl Clients for Everybody {
    fn send(&self, _: usize, _: Answer) -> bool {
        true
    }
    fn want(&self, _: usize) -> bool {
        true
    }
}

impl Sent {
    fn new(bodies: &[&'static str]) -> Self {
        let field = |body: &&'static str| RawField {
            name: RStr::from_str("body"),
            content_type: RStr::from_str(""),
            bytes: RSlice::from_slice(body.as_bytes()),
        };
        Self { fields: bodies.iter().map(|body| [field(body)]).collect() }
    }

    fn requests(&self) -> Vec<RawRequest<'_>> {
        let request = |fields| RawRequest {
            id: RStr::from_str("id"),
            headers: RSlice::EMPTY,
            fields: RSlice::from_slice(fields),
        };
        self.fields.iter().map(|fields| request(fields)).collect()
    }
}

fn batch<'a>(requests: &'a [RawRequest<'a>]) -> RawBatch<'a> {
    RawBatch { verb: RawVerb::PREDICT, requests: RSlice::from_slice(requests) }
}

fn prepare(instance: &mut Instance, requests: &[RawRequest<'_>]) -> Vec<Prepared> {
    requests.iter().map(|request| instance.prepare(request, &Bare, &Everybody).unwrap()).collect()
}

/// What each request is answered with, by its text.
fn finish(instance: &mut Instance, requests: &[RawRequest<'_>], prepared: &mut [Prepared]) -> Vec<String> {
    let (outcomes, result) = instance.finish(&batch(requests), prepared, &Bare, &Everybody);
    result.unwrap();
    let text = |outcome: Option<Result<Answer, Error>>| match outcome.unwrap() {
        Ok(answer) => String::from_utf8(answer.body).unwrap(),
        Err(error) => error.to_string(),
    };
    outcomes.into_iter().map(text).collect()
}

fn panicked(words: &str, result: Result<(), CallError>) {
    match result {
        Err(CallError::Panicked(error)) => assert!(error.log_text().contains(words), "{error}"),
        other => panic!("not a panic: {other:?}"),
    }
}

#[test]
fn each_step_is_called_once_by_the_object_that_was_asked() {
    let export = exported::<Steps>();
    let (mut one, mut other) = (initialized(&export), initialized(&export));
    let hears = Hears::default();
    let sent = Sent::new(&["a", "is bad", "ccc"]);
    let requests = sent.requests();
    let mut prepared: Vec<Prepared> =
        requests.iter().map(|request| other.prepare(request, &hears, &Everybody).unwrap()).collect();
    one.infer(&mut prepared, &hears).unwrap();
    let (outcomes, result) = other.finish(&batch(&requests), &mut prepared, &hears, &Everybody);
    result.unwrap();
    let texts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().map(|answer| answer.body)).collect();
    assert_eq!(texts, [Ok(b"1 a".to_vec()), Err(Error::bad_request("it is bad")), Ok(b"3 ccc".to_vec())]);
    let lines = hears.lines.take();
    let number = |line: &String| line.rsplit(' ').next().unwrap().to_owned();
    let (preparing, inferring) = (number(&lines[0]), number(&lines[3]));
    assert_ne!(preparing, inferring);
    let expected = [
        format!("preprocess by {preparing}"),
        format!("preprocess by {preparing}"),
        format!("preprocess by {preparing}"),
        format!("inference of 2 by {inferring}"),
        format!("postprocess by {preparing}"),
        format!("postprocess by {preparing}"),
    ];
    assert_eq!(lines, expected);
    let stages = hears.stages.take();
    assert_eq!(stages.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), STAGE_METRICS, "once for the batch");
}

#[test]
fn what_is_prepared_passes_from_thread_to_thread() {
    let export = exported::<Steps>();
    let sent = Sent::new(&["aa", "b"]);
    let requests = sent.requests();
    // The object that prepared them is gone when they are finished.
    let mut prepared = std::thread::scope(|scope| {
        scope.spawn(|| prepare(&mut initialized(&export), &sent.requests())).join().unwrap()
    });
    let mut instance = initialized(&export);
    instance.infer(prepared.iter_mut().rev(), &Bare).unwrap();
    assert_eq!(finish(&mut instance, &requests, &mut prepared), ["2 aa", "1 b"]);
}

#[test]
fn an_object_knows_after_a_batch_whether_it_has_steps() {
    let sent = Sent::new(&["a"]);
    let requests = sent.requests();
    let handle = |instance: &mut Instance| {
        assert!(!instance.has_steps());
        let (outcomes, result) = instance.handle(&batch(&requests), &Bare, &Everybody);
        result.unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap().as_ref().unwrap().body, b"1 a");
        instance.has_steps()
    };
    assert!(handle(&mut initialized(&exported::<Steps>())));
    assert!(!handle(&mut initialized(&exported::<PassesOn>())), "the handle of another is no step of its own");
}

#[test]
fn a_panic_in_any_step_is_told_and_nothing_is_lost_with_it() {
    let export = exported::<Steps>();
    let sent = Sent::new(&["a", "panics in preprocess", "panics in postprocess", "d"]);
    let requests = sent.requests();
    let mut instance = initialized(&export);
    let mut prepared = prepare(&mut instance, &requests[..1]);
    panicked("in preprocess", instance.prepare(&requests[1], &Bare, &Everybody).map(drop));

    // What the object made before serves a fresh one.
    let mut instance = initialized(&export);
    prepared.extend(prepare(&mut instance, &requests[2..]));
    instance.infer(&mut prepared, &Bare).unwrap();
    let of_prepared = [requests[0], requests[2], requests[3]];
    let (outcomes, result) = instance.finish(&batch(&of_prepared), &mut prepared, &Bare, &Everybody);
    panicked("in postprocess", result);
    assert_eq!(outcomes[0].as_ref().unwrap().as_ref().unwrap().body, b"1 a", "it was answered before");
    assert_eq!(outcomes[1..], [None, None]);
    assert_eq!(finish(&mut initialized(&export), &of_prepared[2..], &mut prepared[2..]), ["1 d"]);
}

#[test]
fn after_a_failed_inference_nothing_is_left_to_finish() {
    let export = exported::<Steps>();
    for (count, words) in [(6, "six"), (7, "seven")] {
        let sent = Sent::new(&vec!["a"; count]);
        let requests = sent.requests();
        let mut instance = initialized(&export);
        let mut prepared = prepare(&mut instance, &requests);
        let (CallError::Failed(error) | CallError::Panicked(error)) = instance.infer(&mut prepared, &Bare).unwrap_err();
        assert!(error.log_text().contains(words), "{error}");
        let answers = finish(&mut initialized(&export), &requests, &mut prepared);
        assert!(answers.iter().all(|answer| answer.contains("has no output")), "{answers:?}");
    }
}

/// Makes a large value of each request.
#[derive(Default)]
struct Weighs;

const WEIGHT: usize = 16 << 20;

impl Handler for Weighs {
    fn preprocess(&self, _: &Request, _: &Context) -> Result<Value> {
        Ok(Tensor::from_bytes(DType::U8, &[WEIGHT as i64], vec![1; WEIGHT])?.into())
    }
}

fn resident_pages() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_nobody_needs_any_more_is_freed_by_the_plugin() {
    let mut weighs = initialized(&exported::<Weighs>());
    let sent = Sent::new(&["a"]);
    let requests = sent.requests();
    let before = resident_pages();
    for round in 0..32 {
        let mut prepared = prepare(&mut weighs, &requests);
        if round % 2 == 0 {
            weighs.infer(&mut prepared, &Bare).unwrap_err();
        }
    }
    let kept = resident_pages().saturating_sub(before) * 4096;
    assert!(kept < 16 * WEIGHT, "of {} bytes that were prepared {kept} are left", 32 * WEIGHT);
}

#[test]
fn what_other_code_has_prepared_is_refused() {
    let sent = Sent::new(&["a"]);
    let requests = sent.requests();
    let mut prepared = prepare(&mut initialized(&exported::<Steps>()), &requests);
    let mut other = initialized(&exported::<PassesOn>());
    let errors =
        [other.infer(&mut prepared, &Bare), other.finish(&batch(&requests), &mut prepared, &Bare, &Everybody).1];
    for error in errors.map(Result::unwrap_err) {
        let CallError::Failed(error) = error else { panic!("{error:?}") };
        assert!(error.log_text().contains("prepared by other code"), "{error}");
    }
}

#[test]
fn a_plugin_of_before_is_asked_for_no_single_step() {
    let sent = Sent::new(&["a"]);
    let requests = sent.requests();
    let mut keeps = initialized(&exported_by_an_old_plugin::<Keeps>());
    assert!(!keeps.has_steps());
    let errors = [
        keeps.prepare(&requests[0], &Bare, &Everybody).map(drop),
        keeps.infer([], &Bare),
        keeps.finish(&batch(&[]), [], &Bare, &Everybody).1,
    ];
    for error in errors.map(Result::unwrap_err) {
        let CallError::Failed(error) = error else { panic!("{error:?}") };
        assert!(error.log_text().contains("built before"), "{error}");
    }
}

//! Write a handler for [Sconce](https://docs.rs/handler-sdk): the code around a PyTorch model, in Rust, as one shared library.
//!
//! A whole plugin:
//!
//! ```
//! use handler_sdk::prelude::*;
//!
//! #[derive(Default)]
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
//!         Ok(batch.iter().map(|request| Response::bytes(request.body())).collect())
//!     }
//! }
//!
//! export_handler!(Echo);
//!
//! // Tested with no server and no library, through the same boundary:
//! use handler_sdk::testing::{Host, Request};
//! let mut echo = Host::new().start::<Echo>()?;
//! let answer = echo.predict(Request::body("hello"))?;
//! assert_eq!(answer.body, b"hello");
//! # Ok::<(), handler_sdk::Error>(())
//! ```
//!
//! with this in its `Cargo.toml`:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! handler-sdk = "1"
//! ```
//!
//! `cargo build --release` makes `libecho.so`; `sconce check libecho.so` says whether a server would take it; put into the folder of `--plugins-path`, it serves every archive whose handler is `echo`.
//!
//! # With a model
//!
//! The host loads the archive's model, owns it, and keeps it when the handler is replaced.
//! A handler turns a request into a tensor and an output into an answer:
//!
//! ```
//! use handler_sdk::prelude::*;
//!
//! /// Takes `[3.0, -1.0]` as JSON, answers the place of the model's largest output.
//! #[derive(Default)]
//! struct Largest;
//!
//! impl Handler for Largest {
//!     fn preprocess(&self, request: &Request, _: &Context) -> Result<Value> {
//!         Ok(request.input()?.tensor()?.into())
//!     }
//!
//!     fn postprocess(&self, output: Value, _: &Request, _: &Context) -> Result<Response> {
//!         Ok(Response::text(output.tensor()?.argmax()?.to_string()))
//!     }
//! }
//!
//! # use handler_sdk::testing;
//! # let mut handler = testing::Host::new().model(|inputs| Ok(inputs[0].clone())).start::<Largest>()?;
//! # assert_eq!(handler.predict(testing::Request::json(&[0.5, 2.5]))?.body, b"1");
//! # Ok::<(), Error>(())
//! ```
//!
//! Units and shapes: tensors are row-major; `preprocess` gives one without the batch dimension, the model sees `[n, …]`; bytes are bytes, times are in the unit that their name says.
//!
//! # On top of another handler
//!
//! The SDK has TorchServe's default handlers, for pictures in the module `vision` and for texts in `text`.
//! A handler that differs from one of them in a step or two holds it, writes those steps, and leaves the others to it with [`pass_on!`].
//!
//! # Features
//!
//! None is on by default: `handler-sdk = { version = "1", features = ["vision"] }` asks for one.
//!
//! * `vision`: the module `vision`, from a picture in a request to the tensor that a network for pictures takes, and TorchServe's `ImageClassifier`, `ImageSegmenter` and `ObjectDetector`; needs no libtorch.
//! * `text`: the module `text`, TorchServe's `TextClassifier` and its parts; needs no libtorch.
//! * `tokenizers`: the same with Hugging Face's `tokenizer.json`; all of it is Rust.
//! * `torch-file`: the module `torch_file` reads and writes tensors as `torch.save` does; needs no libtorch.
//! * `tch`: tensors are `tch::Tensor`s, shared with the host without a copy, on any device; needs libtorch 2.11.0 to build.
//!   Without it a handler builds in seconds, and may still call the host's models with plain tensors.
//! * `architectures` (with `tch`): [`Network`] serves the state dicts of networks that are built in: torchvision's ResNets and DenseNets, and the MNIST example's.
#![deny(missing_docs)]

pub mod attribution;
mod context;
mod error;
mod export;
mod handler;
mod model;
mod network;
mod pass_on;
// Vocabularies need some of it, tensors some other.
#[cfg(any(feature = "text", feature = "torch-file"))]
#[cfg_attr(not(all(feature = "text", feature = "torch-file")), allow(dead_code))]
mod pickle;
mod request;
mod response;
mod steps;
mod tensor;
mod value;

pub mod classes;
pub mod testing;
#[cfg(feature = "text")]
pub mod text;
#[cfg(feature = "torch-file")]
pub mod torch_file;
#[cfg(feature = "vision")]
pub mod vision;

pub use context::Context;
pub use context::Level;
pub use context::MetricKind;
pub use context::ModelKind;
pub use error::Error;
pub use error::Result;
pub use handler::Handler;
pub use model::Model;
pub use model::Weights;
pub use network::Network;
pub use request::Batch;
pub use request::Field;
pub use request::Request;
pub use response::Answer;
pub use response::Response;
pub use tensor::DType;
pub use tensor::Device;
pub use tensor::Element;
pub use tensor::Tensor;
pub use value::Value;

/// What nearly every handler uses.
pub mod prelude {
    pub use crate::Batch;
    pub use crate::Context;
    pub use crate::Error;
    pub use crate::Handler;
    pub use crate::Request;
    pub use crate::Response;
    pub use crate::Result;
    pub use crate::Tensor;
    pub use crate::Value;
    pub use crate::export_handler;
}

// Required by the host, and by what the macro expands to; not for authors.
#[doc(hidden)]
pub mod abi;
#[doc(hidden)]
pub use context::ContextInfo;
#[doc(hidden)]
pub use export::private as __private;
#[cfg(feature = "tch")]
#[doc(hidden)]
pub use tch;

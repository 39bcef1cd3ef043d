//! The macro by which a handler leaves steps to another that it holds.

/// Writes steps of a [`Handler`](crate::Handler) that call the same step of a handler in a field: what a subclass inherits in Python.
///
/// It stands in the `impl` block, with the field and the steps, which may be `initialize`, `self_test`, `preprocess`, `inference`, `postprocess`, `handle`, `explain`, `explain_batch` and `describe`.
/// A step that stands in neither is the trait's own.
///
/// ```
/// use handler_sdk::prelude::*;
/// use handler_sdk::testing::{Host, Request as Sent};
///
/// #[derive(Default)]
/// struct Doubles;
///
/// impl Handler for Doubles {
///     fn preprocess(&self, request: &Request, _: &Context) -> Result<Value> {
///         let number: f32 = request.input()?.json()?;
///         Ok(Tensor::from_slice(&[1], &[number * 2.0])?.into())
///     }
/// }
///
/// /// Doubles, and says so.
/// #[derive(Default)]
/// struct Tells(Doubles);
///
/// impl Handler for Tells {
///     handler_sdk::pass_on!(0: initialize, preprocess);
///
///     fn postprocess(&self, output: Value, _: &Request, _: &Context) -> Result<Response> {
///         Ok(Response::text(format!("It is {}.", output.tensor()?.to_f64()?[0])))
///     }
/// }
///
/// let host = Host::new().model(|inputs| Ok(inputs[0].clone()));
/// assert_eq!(host.start::<Tells>()?.predict(Sent::body("4"))?.body, b"It is 8.");
/// # Ok::<(), Error>(())
/// ```
#[macro_export]
macro_rules! pass_on {
    ($field:tt: $($step:ident),+ $(,)?) => {
        $($crate::pass_on!(@$step $field);)+
    };
    (@initialize $field:tt) => {
        fn initialize(&mut self, context: &$crate::Context) -> $crate::Result<()> {
            $crate::Handler::initialize(&mut self.$field, context)
        }
    };
    (@self_test $field:tt) => {
        fn self_test(&self, context: &$crate::Context) -> $crate::Result<()> {
            $crate::Handler::self_test(&self.$field, context)
        }
    };
    (@preprocess $field:tt) => {
        fn preprocess(&self, request: &$crate::Request<'_>, context: &$crate::Context) -> $crate::Result<$crate::Value> {
            $crate::Handler::preprocess(&self.$field, request, context)
        }
    };
    (@inference $field:tt) => {
        fn inference(
            &self,
            inputs: ::std::vec::Vec<$crate::Value>,
            context: &$crate::Context,
        ) -> $crate::Result<::std::vec::Vec<$crate::Value>> {
            $crate::Handler::inference(&self.$field, inputs, context)
        }
    };
    (@postprocess $field:tt) => {
        fn postprocess(
            &self,
            output: $crate::Value,
            request: &$crate::Request<'_>,
            context: &$crate::Context,
        ) -> $crate::Result<$crate::Response> {
            $crate::Handler::postprocess(&self.$field, output, request, context)
        }
    };
    (@handle $field:tt) => {
        fn handle(
            &self,
            batch: &$crate::Batch<'_>,
            context: &$crate::Context,
        ) -> $crate::Result<::std::vec::Vec<$crate::Response>> {
            $crate::Handler::handle(&self.$field, batch, context)
        }
    };
    (@explain $field:tt) => {
        fn explain(&self, request: &$crate::Request<'_>, context: &$crate::Context) -> $crate::Result<$crate::Response> {
            $crate::Handler::explain(&self.$field, request, context)
        }
    };
    (@explain_batch $field:tt) => {
        fn explain_batch(
            &self,
            batch: &$crate::Batch<'_>,
            context: &$crate::Context,
        ) -> $crate::Result<::std::vec::Vec<$crate::Response>> {
            $crate::Handler::explain_batch(&self.$field, batch, context)
        }
    };
    (@describe $field:tt) => {
        fn describe(
            &self,
            context: &$crate::Context,
        ) -> $crate::Result<::std::option::Option<$crate::__private::Json>> {
            $crate::Handler::describe(&self.$field, context)
        }
    };
}

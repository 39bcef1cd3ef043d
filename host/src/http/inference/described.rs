//! What every request to a model has in common, as the API's description says it.

use utoipa::openapi::Content;
use utoipa::openapi::Paths;
use utoipa::openapi::RefOr;
use utoipa::openapi::ResponseBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::Object;

use crate::http::document;
use crate::http::document::Route;
use crate::http::document::View;

/// Completes a route that asks a model: its request's body, its answers, and what `OPTIONS` says of the model.
pub(super) fn asking_a_model(mut route: Route) -> Route {
    describe(&mut route.1);
    document::describing_its_model(route, View::Inference)
}

/// Describes the body and the answers of requests to a model.
pub(super) fn describe(paths: &mut Paths) {
    for operation in paths.paths.values_mut().filter_map(|item| item.post.as_mut()) {
        describe_operation(operation);
    }
}

/// What a model can be sent.
pub(in crate::http) fn request_body() -> RequestBody {
    let fields = || Content::new(Some(Object::new()));
    RequestBodyBuilder::new()
        .description(Some(
            "What the model's handler reads: each field of a form, or all of the body as the field `body`.",
        ))
        .content("application/octet-stream", anything())
        .content("application/json", anything())
        .content("multipart/form-data", fields())
        .content("application/x-www-form-urlencoded", fields())
        .build()
}

fn anything() -> Content {
    Content::new(None::<RefOr<utoipa::openapi::Schema>>)
}

fn describe_operation(operation: &mut Operation) {
    let any_method = "Whatever the method of the request is, it is answered as this one.";
    operation.description = Some(match operation.description.take().filter(|text| !text.is_empty()) {
        Some(text) => format!("{text} {any_method}"),
        None => any_method.to_owned(),
    });
    operation.request_body = Some(request_body().into());
    let answer = ResponseBuilder::new()
        .description("What the model's handler answers, in the content type that it says.")
        .content("*/*", anything());
    let responses = &mut operation.responses.responses;
    responses.insert("200".to_owned(), answer.into());
    responses.insert(
        "413".to_owned(),
        ResponseBuilder::new().description("The body is larger than max_request_size; the answer has none.").into(),
    );
    for (status, description) in [
        ("400", "The body can't be read, the handler refuses what is in it, or the key is wrong."),
        ("404", "There is no such model, or no such version of it."),
        ("408", "The body came too slowly."),
        ("500", "The handler failed or took longer than responseTimeout."),
        ("503", "The queue is full, or no worker serves the model, or the handler failed."),
        ("504", "The model was too busy to answer within clientTimeoutInMills."),
        ("507", "The device has too little memory."),
    ] {
        responses.insert(status.to_owned(), document::refusal(description));
    }
}

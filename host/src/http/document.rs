//! What an address answers, in OpenAPI's form: made from its routes, each of which carries its own description.

use std::mem;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::PartialSchema;
use utoipa::openapi::Content;
use utoipa::openapi::Deprecated;
use utoipa::openapi::Info;
use utoipa::openapi::OpenApi;
use utoipa::openapi::Paths;
use utoipa::openapi::Ref;
use utoipa::openapi::RefOr;
use utoipa::openapi::Required;
use utoipa::openapi::ResponseBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::path::ParameterBuilder;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::HttpBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::security::SecurityScheme;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use super::Api;
use super::Apis;
use super::error::ApiError;
use super::error::Form;
use super::reply;
use super::tokens;

/// Routes that carry their description.
pub(super) type Routes = OpenApiRouter<Api>;

/// Those at one path.
pub(super) type Route = UtoipaMethodRouter<Api>;

/// What an address answers; made once, with its router.
pub(super) struct Document {
    description: OpenApi,
    text: String,
}

/// Whose view of a model a document gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Inference,
    Management,
}

/// What a parameter of a query may be, and what counts where it isn't given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Number,
    NumberOr(i64),
    SwitchOr(bool),
}

#[derive(Debug, Deserialize)]
struct Target {
    #[serde(rename = "model_name")]
    model: String,
    #[serde(rename = "model_version")]
    version: Option<String>,
}

/// Where a path names the model.
const MODEL: &str = "{model_name}";

/// The version of the description of one model, as TorchServe gives it.
const OF_MODEL_VERSION: &str = "1.0.0";

/// The address's own description.
pub(super) fn own_routes() -> Routes {
    Routes::default()
        .routes(routes!(describe_api))
        .routes(deprecated(routes!(describe_api_too).map(|route| route.fallback(describe_api_too))))
}

/// The same at an address whose description speaks of other things only.
pub(super) fn own_routes_undescribed() -> Routes {
    axum::Router::from(own_routes()).into()
}

/// Describes the API of this address in OpenAPI's form.
#[utoipa::path(
    options,
    path = "/",
    operation_id = "apiDescription",
    responses((status = 200, description = "An OpenAPI document.", body = Object))
)]
async fn describe_api(Extension(document): Extension<Arc<Document>>) -> Response<Body> {
    reply::json_text(StatusCode::OK, document.text.clone())
}

/// Describes the API of this address in OpenAPI's form, whatever the method is. `OPTIONS /` says the same.
#[utoipa::path(
    get,
    path = "/api-description",
    operation_id = "api-description",
    responses((status = 200, description = "An OpenAPI document.", body = Object))
)]
async fn describe_api_too(document: Extension<Arc<Document>>) -> Response<Body> {
    describe_api(document).await
}

/// Describes a route as one that has a better successor.
pub(super) fn deprecated(mut route: Route) -> Route {
    for operation in route.1.paths.values_mut().flat_map(|item| operations(item).map(|(_, it)| it)) {
        operation.deprecated = Some(Deprecated::True);
    }
    route
}

/// Puts a route at further paths, which name the model more closely.
pub(super) fn also_at(mut route: Route, further: &[&str]) -> Route {
    let Some((_, first)) = route.1.paths.first_key_value() else { return route };
    let first = first.clone();
    for path in further {
        let prefix = if path.contains("{*") { "path" } else { "version" };
        let mut item = first.clone();
        for (_, operation) in operations(&mut item) {
            operation.operation_id = operation.operation_id.take().map(|id| format!("{prefix}_{id}"));
        }
        route.1.paths.insert((*path).to_owned(), item);
    }
    route
}

/// Lets `OPTIONS` on each of these paths answer with the document of the model that it names.
pub(super) fn describing_its_model(mut route: Route, view: View) -> Route {
    describe_options(&mut route.1);
    let answer = async move |State(api): State<Api>,
                             Extension(document): Extension<Arc<Document>>,
                             target: Result<Path<Target>, PathRejection>| {
        match target {
            Ok(Path(target)) => document.answer(&api, view, &target.model, target.version.as_deref()),
            Err(rejection) => ApiError::bad_request(rejection.body_text()).into_response(),
        }
    };
    route.2 = route.2.options(answer);
    route
}

/// Describes the answer to `OPTIONS` on paths that name a model.
pub(super) fn describe_options(paths: &mut Paths) {
    for item in paths.paths.values_mut() {
        let id = operations(item).find_map(|(_, operation)| operation.operation_id.clone()).unwrap_or_default();
        let document = ResponseBuilder::new()
            .description("An OpenAPI document.")
            .content("application/json", Content::new(Some(ObjectBuilder::new())));
        let operation = OperationBuilder::new()
            .operation_id(Some(format!("{id}_apiDescription")))
            .summary(Some("Describes what can be asked of this model, in OpenAPI's form."))
            .response("200", document)
            .response("404", refusal("There is no such model, or no such version of it."));
        item.options = Some(operation.build());
    }
}

/// A parameter of the query.
pub(super) fn query(name: &str, kind: Kind, description: &str) -> Parameter {
    let (kind, default) = match kind {
        Kind::Text => (Type::String, None),
        Kind::Number => (Type::Integer, None),
        Kind::NumberOr(default) => (Type::Integer, Some(default.into())),
        Kind::SwitchOr(default) => (Type::Boolean, Some(default.into())),
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(kind).default(default)))
        .build()
}

/// An answer in the form of all errors.
pub(super) fn refusal(description: &str) -> RefOr<utoipa::openapi::Response> {
    refusal_as("Error", description)
}

fn refusal_as(form: &str, description: &str) -> RefOr<utoipa::openapi::Response> {
    let content = Content::new(Some(Ref::from_schema_name(form)));
    RefOr::T(ResponseBuilder::new().description(description).content("application/json", content).build())
}

/// The operations of a path, with their methods.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::OPTIONS, &mut item.options),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

// === impl Document ===

impl Document {
    /// Of the routes of an address; `asks_for_keys`: clients need a token.
    pub(super) fn new(mut description: OpenApi, apis: Apis, asks_for_keys: bool) -> Self {
        description.info = Info::new("Sconce APIs", env!("CARGO_PKG_VERSION"));
        description.info.description = Some(
            "Sconce serves PyTorch models with handlers that are native plugins, as TorchServe's clients ask."
                .to_owned(),
        );
        let components = description.components.get_or_insert_default();
        components.schemas.insert("Error".to_owned(), Form::schema());
        for (path, mut item) in mem::take(&mut description.paths.paths) {
            // OpenAPI has no name for the rest of a path.
            let path = path.replace("{*", "{");
            for (method, operation) in operations(&mut item) {
                describe_path(&path, operation);
                if let Some(kind) = tokens::needed(apis, &method, &path).filter(|_| asks_for_keys) {
                    let name = format!("{}_key", kind.name());
                    let scheme = HttpBuilder::new()
                        .scheme(HttpAuthScheme::Bearer)
                        .description(Some(format!("The key `{}` of the server's key_file.json.", kind.name())));
                    operation.security = Some(vec![SecurityRequirement::new(&name, [] as [&str; 0])]);
                    components.security_schemes.insert(name, SecurityScheme::Http(scheme.build()).into());
                    let refused = refusal("The key is missing, wrong or expired.");
                    operation.responses.responses.entry("400".to_owned()).or_insert(refused);
                }
            }
            description.paths.paths.insert(path, item);
        }
        let text = reply::pretty(&description).unwrap_or_default();
        Self { description, text }
    }

    /// The document of one model, if there is such a model.
    pub(super) fn answer(&self, api: &Api, view: View, name: &str, version: Option<&str>) -> Response<Body> {
        // Management also describes `all` versions.
        let version = version.filter(|version| view == View::Inference || *version != "all");
        match api.registry.find(name, version) {
            Ok(_) => reply::json(StatusCode::OK, &self.of_model(view, name)),
            Err(error) => ApiError::from(error).into_response(),
        }
    }

    fn of_model(&self, view: View, name: &str) -> OpenApi {
        let mut description = self.description.clone();
        let title = match view {
            View::Inference => format!("RESTful API for: {name}"),
            View::Management => format!("RESTful Management API for: {name}"),
        };
        description.info = Info::new(title.as_str(), OF_MODEL_VERSION);
        for (path, mut item) in mem::take(&mut description.paths.paths) {
            if !path.contains(MODEL) || tokens::is_inference(&tokens::segments(&path)) != (view == View::Inference) {
                continue;
            }
            for (_, operation) in operations(&mut item) {
                if let Some(parameters) = &mut operation.parameters {
                    parameters.retain(|parameter| !matches!(parameter, RefOr::T(it) if it.name == "model_name"));
                }
            }
            description.paths.paths.insert(path.replace(MODEL, name), item);
        }
        description
    }
}

/// Describes what the path itself says of an operation: its parameters, and that a model may be unknown.
fn describe_path(path: &str, operation: &mut Operation) {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let in_path = names.map(|name| {
        let description = match name {
            "model_name" => "Name of the model.",
            "model_version" => "Version of the model.",
            "workflow_name" => "Name of the workflow.",
            _ if path.contains(MODEL) => "Anything; the handler sees it as the header `url_path`.",
            _ => "Anything; it changes nothing.",
        };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(description))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        RefOr::T(parameter.build())
    });
    let mut all: Vec<_> = in_path.collect();
    all.extend(operation.parameters.take().unwrap_or_default());
    operation.parameters = (!all.is_empty()).then_some(all);
    operation.tags = operation.tags.take().filter(|tags| !tags.is_empty());
    if path.contains(MODEL) {
        // The paths of the Open Inference Protocol answer errors in its form.
        let form = if path.starts_with("/v2/") { "ProtocolError" } else { "Error" };
        let unknown = refusal_as(form, "There is no such model, or no such version of it.");
        operation.responses.responses.entry("404".to_owned()).or_insert(unknown);
    }
}

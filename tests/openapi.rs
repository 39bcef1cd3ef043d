//! The API's description: it is valid, it tells what the server does, and it is where TorchServe's clients look for it.

mod routes;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use jsonschema::Validator;
use serde_json::Value;
use serde_json::json;

use crate::support::Answer;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::repository;

/// Of the OpenAPI Initiative, at <https://spec.openapis.org/oas/3.1/schema/2022-10-07>; Apache-2.0.
const SCHEMA: &str = include_str!("openapi/schema-3.1.json");

/// The methods that a path item can describe, and that a client here can send.
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "options"];

/// How a server is asked at one of its addresses.
type Ask = fn(&Server, &str, &Sent) -> Answer;

const INFERENCE: Ask = Server::inference;
const MANAGEMENT: Ask = Server::management;

fn metrics(server: &Server, path: &str, sent: &Sent) -> Answer {
    server.metrics_api(path, sent)
}

fn options() -> Sent {
    Sent::get().method("OPTIONS")
}

fn document(server: &Server, ask: Ask) -> Value {
    let answer = ask(server, "/", &options());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// Each operation of a document, with its path and its method.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap();
        item.iter().map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn listed(document: &Value) -> BTreeSet<String> {
    operations(document).map(|(path, method, _)| format!("{} {path}", method.to_uppercase())).collect()
}

#[track_caller]
fn assert_valid(document: &Value) {
    let schema = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let errors: Vec<_> =
        schema.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");

    // What the schema of documents leaves open: the schemas inside, references, and names that must be the only ones.
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}: {schema:#}");
    }
    let mut references = Vec::new();
    collect(document, "$ref", &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leaves the document"));
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no operationId"));
        assert!(ids.insert(id), "{id} is the name of two operations");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{method} {path} has no summary");
        let by_path: BTreeSet<_> = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        let parameters = operation["parameters"].as_array();
        let described = parameters.into_iter().flatten().filter(|parameter| parameter["in"] == "path");
        let described: BTreeSet<_> = described.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(by_path, described, "{method} {path}");
        for name in operation["security"].as_array().into_iter().flatten().filter_map(Value::as_object) {
            let name = name.keys().next().unwrap();
            assert_eq!(document["components"]["securitySchemes"][name]["scheme"], "bearer", "{method} {path}");
        }
    }
}

/// All texts under this key, wherever they are.
fn collect<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(key).and_then(Value::as_str));
            members.values().for_each(|value| collect(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}

/// What an answer with this status holds, as the document says it.
fn described_body(document: &Value, operation: &Value, status: u16) -> Option<Validator> {
    let schema = operation["responses"][status.to_string()]["content"]["application/json"].get("schema")?;
    Some(jsonschema::validator_for(&json!({"allOf": [schema], "components": document["components"]})).unwrap())
}

/// Sends all that the document describes, and what it doesn't, and compares what comes back.
fn walk(server: &Server, ask: Ask) {
    let document = document(server, ask);
    // A model that is unregistered can be asked nothing more.
    let (last, first): (Vec<_>, Vec<_>) = operations(&document).partition(|(_, method, _)| *method == "delete");
    for (template, method, operation) in first.into_iter().chain(last) {
        let path = template
            .replace("{model_name}", "echo")
            .replace("{model_version}", "1.0")
            .replace("{workflow_name}", "w")
            .replace("{rest}", "a/b");
        // Nobody sends what these would wait for.
        let waits = operation["parameters"].as_array().into_iter().flatten().any(|one| one["name"] == "timeout");
        let path = if waits { format!("{path}?timeout=1") } else { path };
        let key = operation["security"][0].as_object().map(|security| security.keys().next().unwrap());
        let key = key.map(|name| server.key(name.strip_suffix("_key").unwrap()).unwrap());
        // A body where none is awaited may be left unread.
        let body = if operation.get("requestBody").is_some() { "{}" } else { "" };
        let send =
            |method: &str| ask(server, &path, &Sent::body(body).method(&method.to_uppercase()).bearer(key.as_deref()));

        let answer = send(method);
        let what = format!("{method} {path}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("ResourceNotFoundException"), "{what}");
        assert_ne!(answer.status, 405, "{what}");
        assert!(operation["responses"].get(answer.status.to_string()).is_some(), "not described: {what}");
        // The protocol says what `infer` answers, and a handler that answers itself may say otherwise.
        let by_handler = template.starts_with("/v2/") && template.ends_with("/infer") && answer.status == 200;
        if let Some(body) = described_body(&document, operation, answer.status)
            && !by_handler
        {
            let errors: Vec<_> = body.iter_errors(&answer.json()).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{what}: {errors:#?}");
        }

        if method == "options" {
            continue;
        }
        let item = &document["paths"][template];
        let any = item.to_string().contains("hatever the method");
        for other in METHODS.into_iter().filter(|other| item.get(*other).is_none() && *other != "options") {
            let answer = send(other);
            assert_eq!(answer.status != 405, any, "{other} {path} isn't described: {}", answer.text());
        }
    }
}

fn setup() -> Setup {
    Setup::with_echo().with_tokens().property("enable_model_api", "true")
}

#[test]
fn every_address_describes_its_routes() {
    let server = Setup::with_echo().start();
    let (inference, management) = (document(&server, INFERENCE), document(&server, MANAGEMENT));
    let metrics = document(&server, metrics);
    for document in [&inference, &management, &metrics] {
        assert_valid(document);
        assert_eq!(document["openapi"].as_str().unwrap().split('.').next(), Some("3"));
        assert_eq!(document["info"]["title"], "Sconce APIs");
    }
    assert_eq!(listed(&inference), set(&routes::INFERENCE));
    assert_eq!(listed(&management), set(&routes::MANAGEMENT));
    assert_eq!(listed(&metrics), set(&routes::METRICS));
    for ask in [INFERENCE, MANAGEMENT, self::metrics] {
        for method in ["GET", "POST", "OPTIONS"] {
            let same = ask(&server, "/api-description", &Sent::body("").method(method));
            assert_eq!(same.json(), document(&server, ask), "{method}");
        }
        for method in ["GET", "PUT", "POST", "DELETE"] {
            ask(&server, "/", &Sent::body("").method(method)).error(405, "MethodNotAllowedException");
        }
    }
}

#[test]
fn the_description_needs_no_key_and_says_which_one_is_needed() {
    let server = setup().start();
    for (ask, path, method, key) in [
        (INFERENCE, "/predictions/{model_name}", "post", "inference_key"),
        (MANAGEMENT, "/models", "get", "management_key"),
        (MANAGEMENT, "/token", "get", "API_key"),
    ] {
        let document = document(&server, ask);
        assert_valid(&document);
        assert_eq!(document["paths"][path][method]["security"], json!([{key: []}]), "{path}");
        assert_eq!(document["paths"]["/"]["options"].get("security"), None);
        assert_eq!(ask(&server, "/api-description", &Sent::get()).json(), document);
    }
    assert_eq!(document(&server, metrics)["paths"]["/metrics"]["get"].get("security"), None);
}

#[test]
fn the_server_does_what_its_description_says() {
    let server = setup().start();
    walk(&server, INFERENCE);
    walk(&server, metrics);
    walk(&server, MANAGEMENT);
}

#[test]
fn an_address_of_all_apis_describes_them_all() {
    // A port that was free a moment ago: the addresses must be the same.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("http://127.0.0.1:{port}");
    let server = setup()
        .property("inference_address", &address)
        .property("management_address", &address)
        .property("metrics_address", &address)
        .start();
    let document = document(&server, INFERENCE);
    assert_valid(&document);
    let mut all = set(&routes::INFERENCE);
    all.extend(set(&routes::MANAGEMENT));
    all.extend(set(&routes::METRICS));
    all.insert("GET /token".to_owned());
    assert_eq!(listed(&document), all);
    walk(&server, INFERENCE);
}

#[test]
fn a_model_is_described_on_its_own_paths() {
    let server = Setup::with_echo().start();
    for path in [
        "/predictions/echo",
        "/predictions/echo/1.0",
        "/explanations/echo",
        "/explanations/echo/1.0",
        "/echo/predict",
        "/echo/1.0/predict",
        "/models/echo/invoke",
        "/v1/models/echo:predict",
        "/v1/models/echo:explain",
        "/v2/models/echo/infer",
        "/v2/models/echo/versions/1.0/infer",
        "/v2/models/echo/explain",
    ] {
        let document = of_model(&server, INFERENCE, path);
        assert_eq!(document["info"], json!({"title": "RESTful API for: echo", "version": "1.0.0"}), "{path}");
        for path in ["/predictions/echo", "/v1/models/echo:predict", "/v2/models/echo/infer"] {
            assert!(document["paths"][path]["post"].is_object(), "{path} isn't in {document:#}");
        }
    }
    for path in ["/models/echo", "/models/echo/1.0", "/models/echo/all"] {
        let document = of_model(&server, MANAGEMENT, path);
        assert_eq!(document["info"]["title"], "RESTful Management API for: echo", "{path}");
        for method in ["get", "put", "delete"] {
            assert!(document["paths"]["/models/echo"][method].is_object(), "{document:#}");
        }
    }
    for (ask, path) in [
        (INFERENCE, "/predictions/nothing"),
        (INFERENCE, "/nothing/predict"),
        (INFERENCE, "/v1/models/nothing:predict"),
        (INFERENCE, "/v2/models/nothing/infer"),
        (MANAGEMENT, "/models/nothing"),
    ] {
        assert_eq!(ask(&server, path, &options()).error(404, "ModelNotFoundException"), "Model not found: nothing");
    }
    INFERENCE(&server, "/predictions/echo/2.0", &options()).error(404, "ModelVersionNotFoundException");
    MANAGEMENT(&server, "/models/echo/2.0", &options()).error(404, "ModelVersionNotFoundException");
    // No request of these cost an inference.
    assert!(!server.metrics().text().contains("ts_inference_requests_total{"), "{}", server.metrics().text());
}

fn of_model(server: &Server, ask: Ask, path: &str) -> Value {
    let answer = ask(server, path, &options());
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let document = answer.json();
    assert_valid(&document);
    let strangers: Vec<_> =
        document["paths"].as_object().unwrap().keys().filter(|path| !path.contains("echo")).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    document
}

#[test]
fn the_parameters_are_described_with_their_types_and_defaults() {
    let server = Setup::new().models("none").start();
    let document = document(&server, MANAGEMENT);
    let parameters = |path: &str, method: &str| {
        let all = document["paths"][path][method]["parameters"].as_array().unwrap();
        let query = all.iter().filter(|parameter| parameter["in"] == "query");
        let shown = query.map(|it| {
            let (name, schema) = (it["name"].as_str().unwrap(), &it["schema"]);
            let default = schema.get("default").map(|it| format!(" = {it}")).unwrap_or_default();
            let required = if it["required"] == true { "!" } else { "" };
            format!("{name}{required}: {}{default}", schema["type"].as_str().unwrap())
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(
        parameters("/models", "post"),
        [
            "url!: string",
            "model_name: string",
            "handler: string",
            "runtime: string",
            "batch_size: integer",
            "max_batch_delay: integer",
            "initial_workers: integer",
            "synchronous: boolean = true",
            "response_timeout: integer",
            "startup_timeout: integer",
            "s3_sse_kms: boolean = false",
        ]
    );
    for path in ["/models/{model_name}", "/models/{model_name}/{model_version}"] {
        assert_eq!(
            parameters(path, "put"),
            ["min_worker: integer = 1", "max_worker: integer", "synchronous: boolean = false", "model_version: string"]
        );
        assert_eq!(parameters(path, "get"), ["customized: boolean = false"]);
    }
    assert_eq!(parameters("/models", "get"), ["limit: integer = 100", "next_page_token: integer = 0"]);
    let body = &document["paths"]["/models"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["required"], json!(["url"]));
    assert_eq!(body["properties"].as_object().unwrap().len(), 11);
    let fields = &document["components"]["schemas"]["Error"];
    assert_eq!(fields["required"], json!(["code", "type", "message"]));
}

#[test]
fn no_route_is_added_without_its_description() {
    // Such a route would be in no document, and no other test would miss it.
    let mut wrong = Vec::new();
    let mut seen = 0;
    for folder in ["", "inference", "open_inference"] {
        for entry in fs::read_dir(repository().join("host/src/http").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            seen += text.matches(".routes(").count();
            // KServe's paths part at a colon, which a route can't; their description is made beside it.
            let code = text.split("#[cfg(test)]").next().unwrap();
            let adds = [".route(", ".route_service(", ".nest("].iter().any(|call| code.contains(call));
            if adds && !path.ends_with("kserve.rs") {
                wrong.push(path);
            }
        }
    }
    assert!(seen > 20, "only {seen} routes were seen");
    assert!(wrong.is_empty(), "routes without a description, which `routes!` makes: {wrong:?}");
}

fn set(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|&route| route.to_owned()).collect()
}

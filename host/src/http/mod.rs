//! The doors: HTTP in the shapes that TorchServe's clients know.
//!
//! The layer turns HTTP into requests and names, and answers back into HTTP; it knows no files, plugins or libtorch.

#[doc(hidden)]
pub mod benchmarks;
mod body;
mod connections;
mod document;
mod entrance;
mod error;
mod exposition;
mod generations;
mod head_timer;
mod inference;
mod introduced;
mod key_ring;
mod management;
mod open_inference;
mod parameters;
mod path;
mod profile;
mod registration;
mod reply;
mod speed;
mod tokens;
mod types;
mod workflows;

use std::sync::Arc;

use axum::middleware;
use utoipa::OpenApi;

pub use body::BodyLimits;
pub use connections::serve;
pub use entrance::Entrance;
pub use key_ring::Ring;
pub use key_ring::Tokens;

use self::document::Document;
use self::document::Routes;
use crate::config::Envelope;
use crate::serving::Registry;

/// What every route can reach.
#[derive(Debug, Clone)]
pub struct Api {
    pub registry: Arc<Registry>,
    /// Whether models may be registered and unregistered.
    pub model_api: bool,
    pub body_limits: BodyLimits,
    /// The form in which clients wrap their inputs.
    pub envelope: Envelope,
    /// `None`: nobody is asked for a token.
    pub tokens: Option<Arc<Ring>>,
}

/// Which APIs an address has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Apis {
    /// Health and predictions.
    pub inference: bool,
    /// What is served, and how.
    pub management: bool,
    pub metrics: bool,
}

impl Apis {
    /// The APIs of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            inference: self.inference || other.inference,
            management: self.management || other.management,
            metrics: self.metrics || other.metrics,
        }
    }
}

/// What answers at one address.
pub fn entrance(apis: Apis, api: Api) -> Entrance {
    let (routes, mut description) = routes(apis).split_for_parts();
    if apis.management && api.tokens.is_some() {
        description.merge(tokens::Described::openapi());
    }
    let document = Arc::new(Document::new(description, apis, api.tokens.is_some()));
    let metrics = api.registry.metrics().clone();
    let mut routes = routes.fallback(error::not_found).method_not_allowed_fallback(error::method_not_allowed);
    if let Some(ring) = &api.tokens {
        let door = tokens::Door { ring: Arc::clone(ring), apis };
        routes = routes.layer(middleware::from_fn_with_state(door, tokens::check));
    }
    Entrance { routes: routes.with_state(api), metrics, document: Some(document) }
}

fn routes(apis: Apis) -> Routes {
    let mut routes = match apis.inference || apis.management {
        true => document::own_routes(),
        // As in TorchServe, the description of the metrics is of the metrics alone.
        false => document::own_routes_undescribed(),
    };
    if apis.inference {
        routes = routes.merge(inference::routes()).merge(open_inference::routes()).merge(workflows::inference_routes());
    }
    if apis.management {
        routes = routes
            .merge(management::routes())
            .merge(registration::routes())
            .merge(generations::routes())
            .merge(profile::routes())
            .merge(workflows::management_routes());
        if !apis.inference {
            routes = routes.merge(inference::status_routes());
        }
    }
    if apis.metrics {
        routes = routes.merge(exposition::routes());
    }
    routes
}

#[cfg(test)]
mod tests {
    use axum::Router;

    use super::*;

    #[test]
    fn any_apis_can_share_an_address() {
        for number in 0..8 {
            let has = |bit: u8| number & bit != 0;
            let apis = Apis { inference: has(1), management: has(2), metrics: has(4) };
            // Routes that are in each other's way make this panic.
            assert!(Router::from(routes(apis)).has_routes(), "{apis:?}");
        }
    }
}

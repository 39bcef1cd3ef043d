//! The ceiling of HTTP: one axum route that gives back the body it was sent, and nothing else.
//!
//! What it leaves out is what Sconce does beside: limits, lookup, queue, batch, the call into a plugin, metrics.

#![allow(clippy::print_stdout, reason = "the address is what the caller waits for")]

use anyhow::Context;
use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::serve::ListenerExt;
use clap::Parser;
use tokio::net::TcpListener;

/// Answers `POST /predictions/{model}` with the body it was sent.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 lets the system choose, and the choice is printed.
    #[arg(default_value = "127.0.0.1:0")]
    address: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // As tokio starts where nobody says otherwise: a thread for each core.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&arguments.address))
}

async fn serve(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))?;
    println!("http://{}", listener.local_addr()?);
    let routes = Router::new().route("/predictions/{model}", post(echo)).layer(DefaultBodyLimit::disable());
    // As the server does: an answer leaves at once.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, routes).await.context("the server failed")
}

async fn echo(body: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/octet-stream")], body)
}

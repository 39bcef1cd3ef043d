//! The connections of one port: who sends the head of a request slowly, or too large a one, costs no more than a socket for a while.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::watch;

use super::entrance::Entrance;
use super::head_timer::HeadTimer;
use super::introduced::Introduced;
use super::introduced::Understood;

/// What a client may cost before its request is there.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How long a connection may wait for the whole head of its next request.
    head_time: Duration,
    /// The bytes of a head; TorchServe takes 4,096 of a request line and 8,192 of headers.
    head_size: usize,
}

const HEAD_SIZE: usize = 64 * 1024;

/// Answers at a port until `end` says so; then each connection ends after the answer it is at.
///
/// A connection may wait for `head_time` for the whole head of its next request.
pub async fn serve(head_time: Duration, listener: TcpListener, entrance: Entrance, end: watch::Receiver<bool>) {
    serve_within(Limits { head_time, head_size: HEAD_SIZE }, listener, entrance, end).await;
}

async fn serve_within(limits: Limits, mut listener: TcpListener, entrance: Entrance, mut end: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(limits.head_time).max_header_size(limits.head_size);
    // Each connection holds an end of it.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    loop {
        let stream = tokio::select! {
            // Where there are too many files open this waits by itself.
            (stream, _) = Listener::accept(&mut listener) => stream,
            () = ended(&mut end) => break,
        };
        let connection = connection(builder.clone(), stream, entrance.clone(), end.clone());
        let open = open.clone();
        tokio::spawn(async move {
            let _open = open;
            connection.await;
        });
    }
    drop((listener, open));
    let _ = all_closed.recv().await;
}

fn connection(
    mut builder: http1::Builder,
    stream: TcpStream,
    entrance: Entrance,
    mut end: watch::Receiver<bool>,
) -> impl Future<Output = ()> {
    // An answer leaves at once, rather than waiting for the client's acknowledgement of its head.
    let _ = stream.set_nodelay(true);
    async move {
        builder.timer(HeadTimer::default());
        let understood = Understood::default();
        let io = Introduced::new(TokioIo::new(stream), understood.clone());
        let service = service_fn(move |request| {
            understood.set();
            let entrance = entrance.clone();
            async move { Ok::<_, Infallible>(entrance.answer(request).await) }
        });
        let mut connection = pin!(builder.serve_connection(io, service));
        // How a client leaves is its own affair.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = ended(&mut end) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn ended(end: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end too.
    let _ = end.wait_for(|ended| *ended).await;
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;
    use std::net::SocketAddr;
    use std::net::TcpStream;
    use std::time::Instant;

    use axum::Router;
    use axum::routing::any;

    use super::*;
    use crate::config::MetricsConfig;
    use crate::metrics::Metrics;

    const QUICK: Limits = Limits { head_time: Duration::from_millis(100), head_size: HEAD_SIZE };
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn start(limits: Limits) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = watch::channel(false);
        let routes = Router::new().route("/{*path}", any(|| async { "answered" }));
        let metrics = Metrics::new(&MetricsConfig::default()).unwrap();
        let entrance = Entrance { routes, metrics, document: None };
        (address, end, tokio::spawn(serve_within(limits, listener, entrance, ended)))
    }

    /// What comes until the server closes, on a thread of its own.
    async fn speak(address: SocketAddr, parts: Vec<String>) -> String {
        let speaking = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            for part in parts {
                // The server may have closed already.
                let _ = stream.write_all(part.as_bytes());
            }
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8(answer).unwrap()
        };
        tokio::task::spawn_blocking(speaking).await.unwrap()
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_cut_off() {
        let (address, _end, _served) = start(QUICK).await;
        let began = Instant::now();
        for beginning in ["", "GET /x HTTP/1.1\r\n", "GET /x HTTP/1.1\r\nhost: h\r\nx-slow: "] {
            assert_eq!(speak(address, vec![beginning.to_owned()]).await, "", "{beginning:?}");
        }
        assert!(began.elapsed() < PATIENCE);
        let whole = "GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned();
        assert!(speak(address, vec![whole]).await.ends_with("answered"));
    }

    #[tokio::test]
    async fn a_large_head_is_taken_and_a_flood_is_not() {
        let (address, _end, _served) = start(Limits { head_time: PATIENCE, head_size: HEAD_SIZE }).await;
        let with = |line: usize, headers: usize| {
            let path = "p".repeat(line);
            let value = "v".repeat(headers);
            vec![format!("GET /{path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-long: {value}\r\n\r\n")]
        };
        // What TorchServe takes, and more.
        assert!(speak(address, with(4096, 8192)).await.ends_with("answered"));
        refused(&speak(address, with(10, HEAD_SIZE)).await);
        let many: Vec<_> = (0..1000).map(|number| format!("x-{number}: v\r\n")).collect();
        let flood = format!("GET /x HTTP/1.1\r\nhost: h\r\n{}\r\n", many.concat());
        refused(&speak(address, vec![flood]).await);
    }

    /// One error in our form, and nothing else.
    #[track_caller]
    fn refused(answer: &str) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        for header in ["connection: close", "content-type: application/json", "x-request-id: ", "pragma: no-cache"] {
            assert!(head.contains(&format!("\r\n{header}")), "{answer}");
        }
        assert_eq!(head.matches("content-length").count(), 1, "{answer}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        let expected =
            "{\n  \"code\": 400,\n  \"type\": \"BadRequestException\",\n  \"message\": \"Invalid HTTP message.\"\n}\n";
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn what_is_no_http_is_told_so() {
        let (address, _end, _served) = start(Limits { head_time: PATIENCE, head_size: HEAD_SIZE }).await;
        for words in ["\u{16}\u{3}\u{1} this is no HTTP\r\n\r\n", "GET\r\n\r\n", "GET /x HTTP/1.1\r\nno header\r\n\r\n"]
        {
            refused(&speak(address, vec![words.to_owned()]).await);
        }
        // Behind a request that was answered, nothing is mixed into the answer.
        let then = "GET /x HTTP/1.1\r\nhost: h\r\n\r\nthis is no HTTP\r\n\r\n";
        let answers = speak(address, vec![then.to_owned()]).await;
        assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("answeredHTTP/1.1 400 "), "{answers}");
    }

    #[tokio::test]
    async fn the_end_comes_when_the_last_connection_is_closed() {
        let (address, end, served) = start(Limits { head_time: PATIENCE, head_size: HEAD_SIZE }).await;
        // A client that keeps its connection, and asks nothing further.
        let answered = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
            let mut one = [0];
            stream.read_exact(&mut one).unwrap();
            stream
        });
        let kept = answered.await.unwrap();
        end.send(true).unwrap();
        tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
        drop(kept);
    }
}

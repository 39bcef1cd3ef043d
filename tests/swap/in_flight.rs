//! Requests that a swap meets on their way.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use rustix::process::Signal;

use super::setup;
use crate::support::Archive;
use crate::support::Gate;
use crate::support::build_of;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::mark_of;
use crate::support::patience;
use crate::support::says;

#[test]
fn what_is_in_hand_is_answered_by_the_old_code_and_the_rest_by_the_new() {
    let server = setup("waits", "").start();
    let library = fixture("waits");
    let (old, new) = (Gate::new(), Gate::new());
    thread::scope(|scope| {
        let _open = (old.opener(), new.opener());
        let in_hand = scope.spawn(|| server.predict("waits", old.body()));
        old.wait_for_a_call();
        let before = server.serving("waits");
        server.put_library("libwaits.so", &build_of(&library, 1));
        let after = server.swap("waits")["generation"].as_u64().unwrap();
        // The only worker of the old one is at its call.
        assert_eq!(server.generation("waits", before)["state"], "draining");
        new.open();
        assert_eq!(server.predict("waits", new.body()).body, mark_of(1));
        assert_eq!(server.serving("waits"), after);
        assert_eq!(server.generation("waits", before)["state"], "draining");
        assert_eq!(server.metric("sconce_generations", &["waits", "state=\"draining\""]), 1);
        old.open();
        assert_eq!(in_hand.join().unwrap().body, mark_of(0));
        let retired = server.retired("waits", before);
        assert_eq!((retired["requests"].as_u64(), retired["loaded"]["text"].as_str()), (Some(1), Some("unmapped")));
    });
    // The new one and `echo`.
    server.maps_libraries(2);
}

#[test]
fn what_waits_in_the_queue_is_answered_by_the_new_code() {
    let server = setup("waits", "").start();
    let library = fixture("waits");
    let (in_hand, queued) = (Gate::new(), Gate::new());
    thread::scope(|scope| {
        let _open = (in_hand.opener(), queued.opener());
        let first = scope.spawn(|| server.predict("waits", in_hand.body()));
        in_hand.wait_for_a_call();
        let second = scope.spawn(|| server.predict("waits", queued.body()));
        eventually("the second to wait", || {
            (server.describe("waits")["jobQueueStatus"]["pendingRequests"] == 1).then_some(())
        });
        server.put_library("libwaits.so", &build_of(&library, 1));
        server.swap("waits");
        // The first is still in the old code's hand.
        queued.wait_for_a_call();
        queued.open();
        assert_eq!(second.join().unwrap().body, mark_of(1));
        in_hand.open();
        assert_eq!(first.join().unwrap().body, mark_of(0));
    });
}

#[test]
fn a_slow_client_gets_its_answer_whole_from_code_that_is_gone() {
    // More than the kernel takes on the way.
    let largest = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        text.split_whitespace().last().unwrap().parse::<usize>().unwrap()
    };
    let size = largest("tcp_rmem") + largest("tcp_wmem") + (8 << 20);
    let limit = (2 * size).to_string();
    let server =
        setup("tells-its-build", "").property("max_request_size", &limit).property("max_response_size", &limit).start();
    let body: Vec<u8> = (0..size).map(|place| (place * 31 % 251) as u8).collect();
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(patience())).unwrap();
    let head = format!(
        "POST /predictions/tells_its_build HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n"
    );
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(&body).unwrap();
    let before = server.serving("tells_its_build");
    eventually("the handler to have answered", || {
        (server.generation("tells_its_build", before)["requests"] == 1).then_some(())
    });

    server.put_library("libtells_its_build.so", &build_of(&fixture("tells-its-build"), 1));
    server.swap("tells_its_build");
    assert_eq!(server.retired("tells_its_build", before)["loaded"]["text"], "unmapped");
    assert_eq!(server.predict("tells_its_build", "").body, mark_of(1));

    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..end]));
    let (mark, rest) = answer[end..].split_at(16);
    assert_eq!(mark, mark_of(0));
    assert!(rest == body, "{} bytes came back, {size} were sent", rest.len());
}

#[test]
fn sigterm_amid_swaps_answers_what_was_taken_in() {
    let server = setup("waits", "minWorkers: 2\nmaxWorkers: 2\n")
        .plugin(&fixture("tells-its-build"))
        .model(&Archive::new("tells", "tells_its_build"))
        .start();
    let builds = [0, 1].map(|number| build_of(&fixture("tells-its-build"), number));
    let (old, new) = (Gate::new(), Gate::new());
    let told = AtomicBool::new(false);
    thread::scope(|scope| {
        let _open = (old.opener(), new.opener());
        // One request in the hand of a generation that drains, one in the hand of its successor.
        let in_old = scope.spawn(|| server.predict("waits", old.body()));
        old.wait_for_a_call();
        server.put_library("libwaits.so", &build_of(&fixture("waits"), 1));
        server.swap("waits");
        let in_new = scope.spawn(|| server.predict("waits", new.body()));
        new.wait_for_a_call();
        // Another model is swapped again and again, and asked by many.
        let swapping = scope.spawn(|| {
            let mut builds = builds.iter().cycle();
            loop {
                server.put_library("libtells_its_build.so", builds.next().unwrap());
                let answer = server.reload("tells");
                if answer.status != 200 {
                    assert!(told.load(Ordering::SeqCst), "refused before the end: {answer:?}");
                    return answer.error(409, "SwapRefusedException");
                }
            }
        });
        let ask = |client: usize| {
            for number in 0.. {
                let body = format!("{client}/{number}");
                let answer = server.predict("tells", &body);
                if answer.status != 200 {
                    assert!(told.load(Ordering::SeqCst), "refused before the end: {answer:?}");
                    return answer.error(503, "ServiceUnavailableException");
                }
                assert!(answer.text().ends_with(&body), "{answer:?}");
            }
            unreachable!("numbers don't end");
        };
        let clients: Vec<_> = (0..32).map(|client| scope.spawn(move || ask(client))).collect();
        eventually("some swaps", || (server.metric("sconce_swaps_total", &["\"tells\""]) > 5).then_some(()));
        told.store(true, Ordering::SeqCst);
        server.signal(Signal::TERM);
        // What the two generations have in hand keeps the server there: nobody goes without a word.
        for client in clients {
            says(&client.join().unwrap(), &["shutting down", "again later"]);
        }
        says(&swapping.join().unwrap(), &["the server is shutting down"]);
        old.open();
        new.open();
        assert_eq!(in_old.join().unwrap().body, mark_of(0));
        assert_eq!(in_new.join().unwrap().body, mark_of(1));
    });
    assert_eq!(server.ended().code(), Some(0));
    server.logged(&["stopped"]);
}

#[test]
fn calls_that_hang_in_old_code_are_answered_while_another_goes_on() {
    let server = setup("streams", "minWorkers: 4\nmaxWorkers: 4\nresponseTimeout: 1\n").start();
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let _open = gates.each_ref().map(Gate::opener);
    let (flooded, is_over) = (Gate::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut flood = TcpStream::connect(server.address()).unwrap();
        flood.set_read_timeout(Some(patience())).unwrap();
        let body = format!("flood {}", flooded.body());
        let head = format!(
            "POST /predictions/streams HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        flood.write_all((head + &body).as_bytes()).unwrap();
        let mut buffer = [0; 1 << 16];
        assert!(flood.read(&mut buffer).unwrap() > 0, "the first worker sends");
        let is_over = &is_over;
        let read = scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                assert!(flood.read(&mut buffer).unwrap() > 0, "it ended before it was over");
            }
        });
        let hanging = gates.each_ref().map(|gate| {
            let server = &server;
            let asked = scope.spawn(move || server.predict("streams", format!("wait {}", gate.body())));
            gate.wait_for_a_call();
            asked
        });
        let swapped = server.reload("streams").status;
        let answers = hanging.map(|asked| asked.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
        read.join().unwrap();
        assert_eq!(swapped, 200);
        answers.iter().for_each(|answer| drop(answer.error(500, "InternalServerException")));
    });
}

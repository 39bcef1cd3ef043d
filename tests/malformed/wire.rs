//! Bytes as they go over a connection, whether they are HTTP or not.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;

use super::start;
use crate::support::patience;

/// A connection to one of the server's ports.
#[derive(Debug)]
pub(super) struct Wire {
    reader: BufReader<TcpStream>,
    /// The start of what was sent last; told when nothing comes back.
    sent: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The server takes no further request on this connection.
    pub(super) closes: bool,
}

// === impl Wire ===

impl Wire {
    pub(super) fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        stream.set_write_timeout(Some(patience())).unwrap();
        Self { reader: BufReader::new(stream), sent: String::new() }
    }

    /// Sends bytes, or as many of them as the server takes: it may have answered and closed already.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.sent = start(bytes);
        let mut stream = self.reader.get_ref();
        if let Err(error) = stream.write_all(bytes) {
            assert!(is_closed(&error), "the server takes no bytes, and doesn't close either: {error}");
        }
    }

    /// Nothing further comes from here.
    pub(super) fn end(&self) {
        // It may be gone already.
        let _ = self.reader.get_ref().shutdown(Shutdown::Write);
    }

    /// The next answer; `None` where the connection was closed without one.
    pub(super) fn reply(&mut self) -> Option<Reply> {
        let status = self.line()?;
        let status = status.strip_prefix("HTTP/1.").unwrap_or_else(|| panic!("no status line: {status:?}"));
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let (mut length, mut chunked, mut closes) = (None, false, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse().unwrap()),
                "transfer-encoding" => chunked = value == "chunked",
                "connection" => closes = value == "close",
                _ => {}
            }
        }
        let body = match length {
            _ if chunked => self.chunks()?,
            Some(length) => self.bytes(length)?,
            None => Vec::new(),
        };
        Some(Reply { status, body, closes })
    }

    /// Asserts that nothing further comes, and waits for the server to close.
    pub(super) fn is_closed(&mut self) {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest)),
            Err(error) => assert!(is_closed(&error), "{error}: still open after {:?}", self.sent),
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8(line).unwrap().trim_end().to_owned()),
            Err(error) => {
                assert!(is_closed(&error), "{error}: neither answered nor closed after {:?}", self.sent);
                None
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                assert!(is_closed(&error), "{error}: an answer that doesn't go on, to {:?}", self.sent);
                None
            }
        }
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16).unwrap();
            body.extend(self.bytes(length)?);
            assert_eq!(self.line()?, "");
            if length == 0 {
                return Some(body);
            }
        }
    }
}

/// Whether the server has gone, rather than kept us waiting.
fn is_closed(error: &std::io::Error) -> bool {
    !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

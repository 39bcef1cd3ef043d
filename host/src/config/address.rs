//! Where one of the HTTP interfaces listens.

use std::fmt;

/// `http://host:port`; the port 0 lets the system choose one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
}

// === impl Address ===

impl Address {
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    /// Takes TorchServe's spelling. The error is what the address should be.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let form = || format!("an address as http://127.0.0.1:{default_port}");
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if rest.starts_with("//") => (scheme, &rest[2..]),
            Some(("unix", rest)) => ("unix", rest),
            // "host:port" without a scheme, which TorchServe refuses too.
            _ => return Err(form()),
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => {
                return Err(format!("{}: https is not supported yet; put a proxy that ends TLS in front", form()));
            }
            "unix" => return Err(format!("{}: unix sockets are not supported yet", form())),
            _ => return Err(form()),
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or_else(form)?;
                (host, after)
            }
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| form())?,
            None if port.is_empty() => default_port,
            None => return Err(form()),
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(form());
        }
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones() {
        for (text, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://0.0.0.0:0", "http://0.0.0.0:0"),
            ("HTTP://localhost", "http://localhost:80"),
            ("http://localhost:9000/", "http://localhost:9000"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[::]", "http://[::]:80"),
        ] {
            assert_eq!(Address::parse(text, 80).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn bad_ones() {
        for (text, expected) in [
            ("", "an address as http://127.0.0.1:80"),
            ("localhost:8080", "an address as"),
            ("8080", "an address as"),
            ("ftp://localhost", "an address as"),
            ("http://", "an address as"),
            ("http://localhost:", "an address as"),
            ("http://localhost:70000", "an address as"),
            ("http://localhost:80/path", "an address as"),
            ("http://[::1", "an address as"),
            ("http://[::1]80", "an address as"),
            ("https://localhost:8443", "https is not supported yet"),
            ("unix:/tmp/x.sock", "unix sockets are not supported yet"),
            ("unix:///tmp/x.sock", "unix sockets are not supported yet"),
        ] {
            let allowed = Address::parse(text, 80).unwrap_err();
            assert!(allowed.contains(expected), "{text}: {allowed}");
        }
    }
}

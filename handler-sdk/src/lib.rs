//! The contract between handlers and the host.

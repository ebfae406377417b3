//! `[controller.expander]` as it is written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[controller.expander]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawExpander {
    /// Address on which cluster-autoscaler asks (`--grpc-expander-url`). Whoever reaches it is believed, so in a
    /// sidecar it is loopback.
    #[schemars(example = &"127.0.0.1:9443")]
    pub listen: Option<String>,
    /// The server's certificate, PEM, read again when it changes; `--grpc-expander-cert` has to vouch for it, and for
    /// the host in `--grpc-expander-url`.
    #[schemars(example = &"/etc/forelay/expander/tls.crt")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[schemars(example = &"/etc/forelay/expander/tls.key")]
    pub key: Option<PathBuf>,
}

//! The API server that the `kubernetes` store of the same cluster asks.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};

/// The API server that this operator runs against.
#[derive(Clone, Debug, Default)]
pub struct ClusterEndpoint {
    /// Its URL.
    pub url: String,
    /// Certificates to trust, PEM.
    pub ca_pem: Option<String>,
    /// A file with them; wins over `ca_pem` and is read again now and then,
    /// since clusters rotate it under running pods.
    pub ca_file: Option<PathBuf>,
}

impl ClusterEndpoint {
    /// As the operator's own client has it.
    #[must_use]
    pub fn from_config(config: &kube::Config) -> Self {
        let ca_pem = config.root_cert.as_ref().map(|certificates| certificates.iter().map(|der| to_pem(der)).collect());
        Self { url: config.cluster_url.to_string(), ca_pem, ca_file: config.root_cert_file.clone() }
    }
}

/// One certificate as PEM; what is PEM already stays as it is.
pub(super) fn to_pem(certificate: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(certificate)
        && text.contains("-----BEGIN")
    {
        return text.to_owned();
    }
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}

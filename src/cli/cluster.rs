//! Which cluster a command speaks to.

use std::path::PathBuf;

use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::Error;

/// Which cluster, and as whom.
pub(super) async fn cluster(file: Option<PathBuf>, context: Option<String>) -> Result<Config, Error> {
    if file.is_none() && context.is_none() {
        return Config::infer()
            .await
            .map_err(|_| "no cluster: run inside one, set KUBECONFIG, or name a file with --kubeconfig".into());
    }
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    match &file {
        Some(file) => match Kubeconfig::read_from(file) {
            Ok(read) => Config::from_custom_kubeconfig(read, &options).await,
            Err(error) => Err(error),
        },
        None => Config::from_kubeconfig(&options).await,
    }
    .map_err(|error| {
        let what = match &error {
            // These may quote the file, and with it a credential.
            KubeconfigError::Parse(_) => "it is not a kubeconfig file".to_owned(),
            other => other.to_string(),
        };
        let name = file.map_or_else(|| "the kubeconfig".to_owned(), |file| file.display().to_string());
        format!("{name} cannot be used: {what}").into()
    })
}

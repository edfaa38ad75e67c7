//! Which cluster a command speaks to.

use std::{env, path::PathBuf};

use hyper_util::client::proxy::matcher::Matcher;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::Error;

/// Which cluster, and as whom.
pub(super) async fn cluster(file: Option<PathBuf>, context: Option<String>) -> Result<Config, Error> {
    if file.is_none() && context.is_none() {
        return Config::infer()
            .await
            .map(past_proxy)
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
    .map(past_proxy)
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

/// Without the proxy of the environment where NO_PROXY names the API server, as kubectl has
/// it: kube 5.0 looks there for the name of the proxy itself.
fn past_proxy(mut config: Config) -> Config {
    let everybodys = ["HTTPS_PROXY", "https_proxy"].into_iter().filter_map(|name| env::var(name).ok());
    let is_everybodys = everybodys.into_iter().any(|text| text.parse().ok() == config.proxy_url);
    if is_everybodys && Matcher::from_env().intercept(&config.cluster_url).is_none() {
        config.proxy_url = None;
    }
    config
}

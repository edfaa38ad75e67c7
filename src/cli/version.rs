//! `botsecret version`.

use clap::Args;
use serde::Serialize;

use super::{Error, OutputFormat, print};
use crate::api::{self, Provider};

/// What `botsecret version` takes.
#[derive(Debug, Args)]
pub(super) struct VersionArguments {
    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    version: &'static str,
    /// The API group and version of the custom resources.
    api: String,
    /// The managers that this build can speak to.
    stores: &'static [&'static str],
}

pub(super) fn run(arguments: &VersionArguments) -> Result<(), Error> {
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
        api: format!("{}/v1alpha1", api::GROUP),
        stores: Provider::COMPILED,
    };
    print(&match arguments.output {
        OutputFormat::Text => {
            format!("botsecret {}\napi: {}\nstores: {}\n", build.version, build.api, build.stores.join(", "))
        }
        OutputFormat::Json => format!("{}\n", serde_json::to_string_pretty(&build)?),
        OutputFormat::Yaml => serde_yaml::to_string(&build)?,
    })
}

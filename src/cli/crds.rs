//! `botsecret crds`: the definitions as files. `crds/` is what it writes.

use std::{fs, path::PathBuf};

use clap::Args;
use serde_json::Value;

use super::{Error, print};
use crate::api;

/// What `botsecret crds` takes.
#[derive(Debug, Args)]
pub struct CrdsArguments {
    /// Write one file a definition into this folder, instead of printing them
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// One definition as a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its file's name.
    pub file_name: String,
    /// Its file's content.
    pub yaml: String,
}

/// All definitions, as files.
///
/// # Errors
/// Where a definition has no YAML form, which none here lacks.
pub fn documents() -> Result<Vec<Document>, Error> {
    api::definitions()
        .into_iter()
        .map(|definition| {
            let names = &definition.spec.names;
            let file_name = format!("{}_{}.yaml", definition.spec.group, names.plural);
            let mut value = serde_json::to_value(&definition)?;
            whole_numbers(&mut value);
            let yaml = format!("# Made by `botsecret crds`: edit src/api instead.\n{}", serde_yaml::to_string(&value)?);
            Ok(Document { file_name, yaml })
        })
        .collect()
}

/// Bounds are floating point in the API's own types; 64.0 reads as a mistake.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|float| float.fract() == 0.0).map(|float| format!("{float}"))
                && let Ok(whole) = whole.parse::<i64>()
            {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

pub(super) fn run(arguments: &CrdsArguments) -> Result<(), Error> {
    let documents = documents()?;
    let Some(folder) = &arguments.dir else {
        let documents: Vec<String> = documents.into_iter().map(|document| document.yaml).collect();
        return print(&format!("---\n{}", documents.join("---\n")));
    };
    let failed = |error: std::io::Error, path: &PathBuf| format!("{}: {error}", path.display());
    fs::create_dir_all(folder).map_err(|error| failed(error, folder))?;
    for document in documents {
        let path = folder.join(&document.file_name);
        fs::write(&path, document.yaml).map_err(|error| failed(error, &path))?;
    }
    Ok(())
}

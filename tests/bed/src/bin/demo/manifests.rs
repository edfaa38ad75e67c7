//! The repository's own manifests, as a user has them.

use std::path::Path;

use anyhow::{Context, Result};

/// Of what `kubectl apply -k deploy/` brings, all but the roles for people and the
/// operator's own Deployment: here it runs as a local process, of this build.
pub const INSTALL: [&str; 4] =
    ["deploy/namespace.yaml", "deploy/crds.yaml", "deploy/rbac.yaml", "deploy/admission.yaml"];

/// A file of the repository.
pub fn read(path: &str) -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&file).with_context(|| format!("{path} could not be read"))
}

/// Several files as one.
pub fn read_all(paths: &[&str]) -> Result<String> {
    Ok(paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?.join("\n---\n"))
}

/// Of a manifest, the objects of these kinds, or all others.
pub fn of_kinds(manifest: &str, kinds: &[&str], others: bool) -> String {
    let is_wanted = |document: &&str| {
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
        kind.is_some_and(|kind| kinds.contains(&kind.trim()) != others)
    };
    manifest.split("\n---\n").filter(is_wanted).map(str::trim).collect::<Vec<_>>().join("\n---\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::of_kinds;

    #[test]
    fn a_manifest_is_parted_by_kind() {
        let manifest = "# about it\nkind: A\nname: x\n---\nkind: B\nspec:\n  kind: A\n---\nkind: C\n";
        assert_eq!(of_kinds(manifest, &["B"], false), "kind: B\nspec:\n  kind: A\n");
        assert_eq!(of_kinds(manifest, &["B"], true), "# about it\nkind: A\nname: x\n---\nkind: C\n");
    }
}

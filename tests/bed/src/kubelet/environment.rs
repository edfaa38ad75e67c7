//! A container's environment, from the API as it is at this moment.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, Secret};
use kube::api::Api;

use super::{Node, address};

/// Name and value, in the order in which they are set.
pub(super) type Environment = Vec<(String, Vec<u8>)>;

/// The keys of one Secret or ConfigMap; `None` when there is no such object.
pub(super) type Keys = Option<BTreeMap<String, Vec<u8>>>;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Reads each object once for one start of one container, or one sync of one
/// pod's volumes, so that its keys fit together.
pub(super) struct Reader<'a> {
    node: &'a Node,
    namespace: String,
    secrets: HashMap<String, Keys>,
    config_maps: HashMap<String, Keys>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(node: &'a Node, pod: &Pod) -> Self {
        Self {
            node,
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            secrets: HashMap::new(),
            config_maps: HashMap::new(),
        }
    }

    /// The error is the kubelet's message for the waiting container.
    pub(super) async fn secret(&mut self, name: &str) -> Result<&Keys, String> {
        if !self.secrets.contains_key(name) {
            let api: Api<Secret> = Api::namespaced(self.node.client(), &self.namespace);
            let object = api.get_opt(name).await.map_err(|error| error.to_string())?;
            let keys = object.map(|secret| {
                let data = secret.data.unwrap_or_default().into_iter();
                data.map(|(key, value)| (key, value.0)).collect()
            });
            self.secrets.insert(name.to_owned(), keys);
        }
        Ok(&self.secrets[name])
    }

    pub(super) async fn config_map(&mut self, name: &str) -> Result<&Keys, String> {
        if !self.config_maps.contains_key(name) {
            let api: Api<ConfigMap> = Api::namespaced(self.node.client(), &self.namespace);
            let object = api.get_opt(name).await.map_err(|error| error.to_string())?;
            let keys = object.map(|map| {
                let text = map.data.unwrap_or_default().into_iter();
                let text = text.map(|(key, value)| (key, value.into_bytes()));
                let bytes = map.binary_data.unwrap_or_default().into_iter();
                text.chain(bytes.map(|(key, value)| (key, value.0))).collect()
            });
            self.config_maps.insert(name.to_owned(), keys);
        }
        Ok(&self.config_maps[name])
    }

    /// One key; `None` when it is missing and optional.
    async fn key(&mut self, kind: &str, name: &str, key: &str, optional: bool) -> Result<Option<Vec<u8>>, String> {
        let namespace = self.namespace.clone();
        let keys = match kind {
            "secret" => self.secret(name).await?,
            _ => self.config_map(name).await?,
        };
        let value = keys.as_ref().and_then(|keys| keys.get(key).cloned());
        match (keys, value) {
            (_, Some(value)) => Ok(Some(value)),
            _ if optional => Ok(None),
            (None, None) => Err(format!("{kind} \"{name}\" not found")),
            (Some(_), None) => {
                let kind = if kind == "secret" { "Secret" } else { "ConfigMap" };
                Err(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
            }
        }
    }
}

/// What the container's process is to be given, or why it cannot start.
pub(super) async fn resolve(node: &Node, pod: &Pod, container: &Container) -> Result<Environment, String> {
    let mut reader = Reader::new(node, pod);
    let port = node.api_port.to_string();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mut all = Environment::new();
    for (name, value) in [
        ("PATH", PATH),
        ("HOME", "/root"),
        ("HOSTNAME", &name),
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", &port),
        ("KUBERNETES_SERVICE_PORT_HTTPS", &port),
    ] {
        set(&mut all, name, value.as_bytes().to_vec());
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.clone().unwrap_or_default();
        let (kind, name, optional, keys) = if let Some(secret) = &from.secret_ref {
            ("secret", &secret.name, secret.optional, reader.secret(&secret.name).await?)
        } else if let Some(map) = &from.config_map_ref {
            ("configmap", &map.name, map.optional, reader.config_map(&map.name).await?)
        } else {
            continue;
        };
        match keys {
            Some(keys) => {
                for (key, value) in keys {
                    set(&mut all, &format!("{prefix}{key}"), value.clone());
                }
            }
            None if optional == Some(true) => {}
            None => return Err(format!("{kind} \"{name}\" not found")),
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(&mut reader, pod, container, &all, variable).await? {
            set(&mut all, &variable.name, value);
        }
    }
    match all.iter().find(|(_, value)| value.contains(&0)) {
        Some((name, _)) => Err(format!("the value of {name} holds a NUL byte")),
        None => Ok(all),
    }
}

fn set(all: &mut Environment, name: &str, value: Vec<u8>) {
    all.retain(|(other, _)| other != name);
    all.push((name.to_owned(), value));
}

async fn value(
    reader: &mut Reader<'_>,
    pod: &Pod,
    container: &Container,
    before: &Environment,
    variable: &EnvVar,
) -> Result<Option<Vec<u8>>, String> {
    let Some(EnvVarSource { config_map_key_ref, field_ref, resource_field_ref, secret_key_ref, .. }) =
        &variable.value_from
    else {
        let text = variable.value.clone().unwrap_or_default();
        return Ok(Some(address::narrow(expand(text.as_bytes(), before), pod)));
    };
    if let Some(key) = secret_key_ref {
        let optional = key.optional == Some(true);
        return reader.key("secret", &key.name, &key.key, optional).await;
    }
    if let Some(key) = config_map_key_ref {
        let optional = key.optional == Some(true);
        return reader.key("configmap", &key.name, &key.key, optional).await;
    }
    if let Some(selector) = field_ref {
        return field(pod, selector).map(|text| Some(text.into_bytes()));
    }
    if let Some(selector) = resource_field_ref {
        let (kind, resource) = selector.resource.split_once('.').unwrap_or_default();
        let resources = container.resources.as_ref();
        let values = match kind {
            "limits" => resources.and_then(|all| all.limits.as_ref()),
            _ => resources.and_then(|all| all.requests.as_ref()),
        };
        let quantity = values.and_then(|values| values.get(resource));
        return Ok(Some(quantity.map_or("0".into(), |q| q.0.clone()).into_bytes()));
    }
    Ok(Some(Vec::new()))
}

/// A field of the pod by the paths that the downward API knows.
pub(super) fn field(pod: &Pod, selector: &ObjectFieldSelector) -> Result<String, String> {
    let path = selector.field_path.as_str();
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(meta.labels.as_ref())),
        "metadata.annotations" => Some(lines(meta.annotations.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" | "status.podIPs" => Some(address::of(pod).to_string()),
        "status.hostIP" | "status.hostIPs" => Some(address::NODE.to_string()),
        _ => {
            let inside = |kind: &str| path.strip_prefix(kind)?.strip_suffix("']");
            let label = inside("metadata.labels['").map(|key| meta.labels.as_ref()?.get(key));
            let note = inside("metadata.annotations['").map(|key| meta.annotations.as_ref()?.get(key));
            match label.or(note) {
                Some(value) => Some(value.cloned().unwrap_or_default()),
                None => return Err(format!("unsupported fieldPath: {path}")),
            }
        }
    };
    Ok(text.unwrap_or_default())
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// `$(NAME)` as Kubernetes expands it: unknown names stay, `$$` is one `$`.
pub(super) fn expand(text: &[u8], environment: &Environment) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.first() {
            Some(b'$') => {
                out.push(b'$');
                rest = &rest[1..];
            }
            Some(b'(') => {
                let Some(end) = rest.iter().position(|byte| *byte == b')') else {
                    out.push(b'$');
                    continue;
                };
                let name = &rest[1..end];
                let known = environment.iter().find(|(other, _)| other.as_bytes() == name);
                if let Some((_, value)) = known {
                    out.extend_from_slice(value);
                } else {
                    out.push(b'$');
                    out.extend_from_slice(&rest[..=end]);
                }
                rest = &rest[end + 1..];
            }
            _ => out.push(b'$'),
        }
    }
    out.extend_from_slice(rest);
    out
}

/// What runs: `command` or else the image, then `args`.
pub(super) fn command_line(pod: &Pod, container: &Container, environment: &Environment) -> Vec<OsString> {
    let command = container.command.clone().filter(|command| !command.is_empty());
    let command = command.unwrap_or_else(|| vec![container.image.clone().unwrap_or_default()]);
    let arguments = container.args.clone().unwrap_or_default();
    let all = command.into_iter().chain(arguments);
    all.map(|text| OsString::from_vec(address::narrow(expand(text.as_bytes(), environment), pod))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_in_kubernetes() {
        let environment = vec![("A".to_owned(), b"1".to_vec())];
        let text = b"$(A) $$(A) $(B) $A $ $(";
        let expanded = expand(text, &environment);
        assert_eq!(String::from_utf8_lossy(&expanded), "1 $(A) $(B) $A $ $(");
    }
}

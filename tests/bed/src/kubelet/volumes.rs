//! A pod's volumes, laid out in folders of this machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Pod, ServiceAccount, ServiceAccountTokenProjection, Volume,
    VolumeProjection,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, PostParams};

use super::Node;
use super::environment::{Keys, Reader, field};
use crate::ports::random_name;

/// What the files of one volume hold, by path, with their mode.
type Payload = BTreeMap<PathBuf, (Vec<u8>, u32)>;

/// The volumes of one pod.
pub(super) struct Volumes {
    folder: PathBuf,
    declared: Vec<Volume>,
    written: HashMap<String, Payload>,
    tokens: HashMap<(String, PathBuf), (String, Timestamp)>,
}

/// What a container's set-up must know of a volume.
pub(super) struct Source {
    /// The folder or file of the machine that a `hostPath` names.
    pub(super) host: Option<PathBuf>,
    /// Whether its content comes from the API: such are never writable.
    pub(super) read_only: bool,
}

impl Volumes {
    pub(super) fn new(folder: PathBuf, pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        Self {
            folder,
            declared: spec.and_then(|spec| spec.volumes.clone()).unwrap_or_default(),
            written: HashMap::new(),
            tokens: HashMap::new(),
        }
    }

    pub(super) fn sources(&self) -> HashMap<String, Source> {
        let source = |volume: &Volume| Source {
            host: volume.host_path.as_ref().map(|host| host.path.clone().into()),
            read_only: volume.empty_dir.is_none() && volume.host_path.is_none(),
        };
        self.declared.iter().map(|volume| (volume.name.clone(), source(volume))).collect()
    }

    /// Makes every volume, or brings those from the API up to date. A volume
    /// whose source is missing keeps what it holds.
    pub(super) async fn sync(&mut self, node: &Node, pod: &Pod) -> Result<(), String> {
        let mut reader = Reader::new(node, pod);
        let mut failed = None;
        for volume in self.declared.clone() {
            if self.needs_no_sync(&volume.name) {
                continue;
            }
            let place = self.folder.join(&volume.name);
            let outcome = if let Some(host) = &volume.host_path {
                prepare_host(host, &place)
            } else if volume.empty_dir.is_some() {
                std::fs::create_dir_all(&place).map_err(|error| error.to_string())
            } else {
                match self.payload(node, pod, &mut reader, &volume).await {
                    Ok(payload) => self.write(&volume.name, &place, payload),
                    Err(error) => Err(error),
                }
            };
            if let Err(error) = outcome {
                let name = &volume.name;
                failed = Some(format!("MountVolume.SetUp failed for volume \"{name}\": {error}"));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The volume that admission gives every pod changes only by its token:
    /// a look at each of them every two seconds would drown all else.
    fn needs_no_sync(&self, name: &str) -> bool {
        let mut tokens = self.tokens.iter().filter(|((volume, _), _)| volume == name);
        name.starts_with("kube-api-access-")
            && self.written.contains_key(name)
            && tokens.all(|(_, (_, until))| *until > Timestamp::now())
    }

    fn write(&mut self, name: &str, place: &Path, payload: Payload) -> Result<(), String> {
        if self.written.get(name) == Some(&payload) {
            return Ok(());
        }
        replace_atomically(place, &payload).map_err(|error| error.to_string())?;
        self.written.insert(name.to_owned(), payload);
        Ok(())
    }

    async fn payload(
        &mut self,
        node: &Node,
        pod: &Pod,
        reader: &mut Reader<'_>,
        volume: &Volume,
    ) -> Result<Payload, String> {
        let mut payload = Payload::new();
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.clone().unwrap_or_default();
            let chosen = Chosen {
                kind: "secret",
                name: &name,
                items: secret.items.as_deref(),
                optional: secret.optional == Some(true),
                mode: secret.default_mode,
            };
            chosen.add(reader.secret(&name).await?, &mut payload)?;
        } else if let Some(map) = &volume.config_map {
            let chosen = Chosen {
                kind: "configmap",
                name: &map.name,
                items: map.items.as_deref(),
                optional: map.optional == Some(true),
                mode: map.default_mode,
            };
            chosen.add(reader.config_map(&map.name).await?, &mut payload)?;
        } else if let Some(downward) = &volume.downward_api {
            add_fields(pod, downward.items.as_deref(), downward.default_mode, &mut payload)?;
        } else if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                let mode = projected.default_mode;
                self.project(node, pod, reader, (&volume.name, source, mode), &mut payload).await?;
            }
        } else {
            return Err("this kind of volume is not supported here".to_owned());
        }
        Ok(payload)
    }

    async fn project(
        &mut self,
        node: &Node,
        pod: &Pod,
        reader: &mut Reader<'_>,
        (volume, source, mode): (&str, &VolumeProjection, Option<i32>),
        payload: &mut Payload,
    ) -> Result<(), String> {
        if let Some(secret) = &source.secret {
            let chosen = Chosen {
                kind: "secret",
                name: &secret.name,
                items: secret.items.as_deref(),
                optional: secret.optional == Some(true),
                mode,
            };
            chosen.add(reader.secret(&secret.name).await?, payload)?;
        }
        if let Some(map) = &source.config_map {
            let chosen = Chosen {
                kind: "configmap",
                name: &map.name,
                items: map.items.as_deref(),
                optional: map.optional == Some(true),
                mode,
            };
            chosen.add(reader.config_map(&map.name).await?, payload)?;
        }
        if let Some(downward) = &source.downward_api {
            add_fields(pod, downward.items.as_deref(), mode, payload)?;
        }
        if let Some(token) = &source.service_account_token {
            let text = self.token(node, pod, volume, token).await?;
            payload.insert(token.path.clone().into(), (text.into_bytes(), 0o600));
        }
        Ok(())
    }

    /// Renewed, as by the kubelet, when four fifths of its life are over.
    async fn token(
        &mut self,
        node: &Node,
        pod: &Pod,
        volume: &str,
        wanted: &ServiceAccountTokenProjection,
    ) -> Result<String, String> {
        let key = (volume.to_owned(), PathBuf::from(&wanted.path));
        if let Some((token, until)) = self.tokens.get(&key)
            && *until > Timestamp::now()
        {
            return Ok(token.clone());
        }
        let seconds = wanted.expiration_seconds.unwrap_or(3600);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: wanted.audience.clone().into_iter().collect(),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(node.client(), namespace);
        let name = account.unwrap_or("default");
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let status = answer.map_err(|error| error.to_string())?.status;
        let token = status.ok_or("a TokenRequest without status")?.token;
        let until = Timestamp::now() + SignedDuration::from_secs(seconds * 4 / 5);
        self.tokens.insert(key, (token.clone(), until));
        Ok(token)
    }
}

/// Which keys of a Secret or ConfigMap become which files.
struct Chosen<'a> {
    kind: &'a str,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
    mode: Option<i32>,
}

impl Chosen<'_> {
    fn add(&self, keys: &Keys, payload: &mut Payload) -> Result<(), String> {
        let Some(keys) = keys else {
            let missing = format!("{} \"{}\" not found", self.kind, self.name);
            return if self.optional { Ok(()) } else { Err(missing) };
        };
        let Some(items) = self.items.filter(|items| !items.is_empty()) else {
            for (key, value) in keys {
                payload.insert(key.into(), (value.clone(), mode(self.mode)));
            }
            return Ok(());
        };
        for item in items {
            match keys.get(&item.key) {
                Some(value) => {
                    let mode = mode(item.mode.or(self.mode));
                    payload.insert(item.path.clone().into(), (value.clone(), mode));
                }
                None if self.optional => {}
                None => return Err(format!("references non-existent secret key: {}", item.key)),
            }
        }
        Ok(())
    }
}

fn mode(given: Option<i32>) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
}

fn add_fields(
    pod: &Pod,
    files: Option<&[DownwardAPIVolumeFile]>,
    default: Option<i32>,
    payload: &mut Payload,
) -> Result<(), String> {
    for file in files.unwrap_or_default() {
        let text = match &file.field_ref {
            Some(selector) => field(pod, selector)?,
            None => String::new(),
        };
        let mode = mode(file.mode.or(default));
        payload.insert(file.path.clone().into(), (text.into_bytes(), mode));
    }
    Ok(())
}

/// Only a place to mount onto: the container's own namespace gets the mount.
fn prepare_host(host: &HostPathVolumeSource, place: &Path) -> Result<(), String> {
    let path = Path::new(&host.path);
    let wanted = host.type_.as_deref().unwrap_or_default();
    let prepared = if wanted == "DirectoryOrCreate" { std::fs::create_dir_all(path) } else { Ok(()) };
    let made = prepared.and_then(|()| path.metadata()).and_then(|meta| {
        if meta.is_dir() {
            std::fs::create_dir_all(place)
        } else {
            std::fs::File::options().create(true).append(true).open(place).map(drop)
        }
    });
    made.map_err(|error| format!("hostPath {}: {error}", host.path))
}

/// The kubelet's AtomicWriter: a new folder, one rename of `..data`, and links
/// through it, so that a reader sees all of the old files or all of the new.
fn replace_atomically(place: &Path, payload: &Payload) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    std::fs::create_dir_all(place)?;
    let fresh = format!("..{}", random_name(12));
    std::fs::create_dir(place.join(&fresh))?;
    for (path, (content, mode)) in payload {
        let file = place.join(&fresh).join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, content)?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(*mode))?;
    }
    let old = std::fs::read_link(place.join("..data")).ok();
    let next = place.join("..data_tmp");
    symlink(&fresh, &next)?;
    std::fs::rename(next, place.join("..data"))?;
    let names: BTreeSet<_> = payload.keys().filter_map(|path| path.iter().next()).collect();
    for name in &names {
        if place.join(name).symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), place.join(name))?;
        }
    }
    for entry in place.read_dir()? {
        let name = entry?.file_name();
        if !name.to_string_lossy().starts_with("..") && !names.contains(&name.as_os_str()) {
            std::fs::remove_file(place.join(name))?;
        }
    }
    if let Some(old) = old {
        std::fs::remove_dir_all(place.join(old))?;
    }
    Ok(())
}

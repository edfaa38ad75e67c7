//! The file system of a container: this machine's, changes kept in memory.
//!
//! An overlay shows one file system and not what is mounted in it, so there is
//! one for each. In a user namespace Linux refuses a lower folder with other
//! mounts beneath it (they are locked, mount_namespaces(7)): there the folders
//! above a mount point are made anew, and each of their entries is a layer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rustix::process::geteuid;

use super::sandbox::{quoted, unshare_flags};

/// Not files, and of no use as an overlay.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// One step in making a root folder, each below the ones before it.
enum Layer {
    /// An overlay over this folder.
    Overlay(PathBuf),
    /// The machine's own, with all that is mounted in it.
    Bind(PathBuf),
    /// An empty folder.
    Folder(PathBuf),
    /// A symbolic link and where it leads.
    Link(PathBuf, PathBuf),
}

/// Shell lines that lay out `$S/root`, with their changes in `$S/upper`.
pub(super) fn script(mount: &str) -> String {
    let extra = if geteuid().is_root() { "" } else { ",userxattr" };
    let mut script = String::from("mkdir \"$S/root\" \"$S/upper\" \"$S/work\"\n");
    for (number, layer) in layers().iter().enumerate() {
        let line = match layer {
            Layer::Overlay(path) => {
                let place = quoted(path);
                format!(
                    "mkdir \"$S/upper/{number}\" \"$S/work/{number}\"\nmkdir -p \"$S/root\"{place}\n\
                     {mount} -t overlay -o lowerdir={place},upperdir=\"$S/upper/{number}\",\
                     workdir=\"$S/work/{number}\"{extra} testbed \"$S/root\"{place} 2>/dev/null \
                     || {mount} --rbind {place} \"$S/root\"{place}\n"
                )
            }
            Layer::Bind(path) => {
                let place = quoted(path);
                let make = if path.is_dir() { "mkdir -p" } else { ": >>" };
                format!("{make} \"$S/root\"{place}\n{mount} --rbind {place} \"$S/root\"{place}\n")
            }
            Layer::Folder(path) => format!("mkdir -p \"$S/root\"{}\n", quoted(path)),
            Layer::Link(path, to) => format!("ln -s {} \"$S/root\"{}\n", quoted(to), quoted(path)),
        };
        script.push_str(&line);
    }
    script
}

fn layers() -> Vec<Layer> {
    let points = mount_points();
    let mut layers = Vec::new();
    if *WHOLE {
        layers.push(Layer::Overlay("/".into()));
        layers.extend(points.into_iter().map(one));
    } else {
        take_apart(Path::new("/"), &points, &mut layers);
    }
    layers.extend(KERNEL.map(|path| Layer::Bind(path.into())));
    layers
}

/// Whether one overlay may cover the machine's root folder: tried once.
static WHOLE: LazyLock<bool> = LazyLock::new(|| {
    let script = "S=$(mktemp -d) && mount -t tmpfs testbed $S && mkdir $S/u $S/w $S/r \
        && mount -t overlay -o lowerdir=/,upperdir=$S/u,workdir=$S/w testbed $S/r; \
        E=$?; cd /; umount -l $S; rmdir $S; exit $E";
    let mut unshare = Command::new("unshare");
    unshare.args(unshare_flags()).args(["sh", "-c", script]);
    unshare.output().is_ok_and(|output| output.status.success())
});

fn take_apart(folder: &Path, points: &[PathBuf], layers: &mut Vec<Layer>) {
    let Ok(entries) = folder.read_dir() else {
        layers.push(Layer::Bind(folder.to_owned()));
        return;
    };
    layers.push(Layer::Folder(folder.to_owned()));
    for path in entries.flatten().map(|entry| entry.path()) {
        let beneath = |point: &&PathBuf| point.starts_with(&path) && **point != path;
        if KERNEL.iter().any(|kernel| path == Path::new(kernel)) {
            continue;
        }
        if let Ok(to) = path.read_link() {
            layers.push(Layer::Link(path, to));
        } else if points.iter().any(|point| beneath(&point)) {
            take_apart(&path, points, layers);
        } else {
            layers.push(one(path));
        }
    }
}

fn one(path: PathBuf) -> Layer {
    // These would have to be escaped in the options of an overlay.
    let odd = path.to_str().is_none_or(|text| text.contains([',', ':', '\\']));
    if path.is_dir() && !odd { Layer::Overlay(path) } else { Layer::Bind(path) }
}

/// What is mounted on this machine besides `/` and the kernel's own trees.
fn mount_points() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        // A space in a name is written as an octal number: too odd to matter.
        .filter(|point| *point != "/" && !point.contains('\\'))
        .map(PathBuf::from)
        .filter(|point| !KERNEL.iter().any(|kernel| point.starts_with(kernel)))
        .filter(|point| point.exists())
        .collect();
    points.sort();
    points.dedup();
    points
}

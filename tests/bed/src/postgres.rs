//! A real PostgreSQL, whose users a database engine makes and drops.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::peers::{self, on_machine};
use crate::process::{Process, server_environment};
use crate::{OpenBao, ports, temp, wait_for};

const PATIENCE: Duration = Duration::from_mins(1);
/// It refuses to run as root: then it runs as `nobody`.
const NOBODY: u32 = 65_534;
const ADMIN: &str = "admin";

/// A running server; dropped, it is gone with its data.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    password: String,
    psql: PathBuf,
    log: PathBuf,
    _process: Process,
    _folder: TempDir,
}

impl Postgres {
    /// Starts a server on a free port, with an administrator of its own.
    pub async fn start() -> Result<Self> {
        let folder = temp::folder()?;
        // Its own user must get through to what is below.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let bin = programs(folder.path())?;
        let (server, initdb, psql) = (bin.join("postgres"), bin.join("initdb"), bin.join("psql"));
        let home = folder.path().join("home");
        std::fs::create_dir(&home)?;
        let (password, password_file) = (ports::random_name(24), home.join("password"));
        std::fs::write(&password_file, &password)?;
        if is_root() {
            for path in [&home, &password_file] {
                chown(path, Some(NOBODY), Some(NOBODY))?;
            }
        }
        let (data, log, port) = (home.join("data"), folder.path().join("postgres.log"), ports::free()?);
        let text = |path: &Path| path.display().to_string();
        let arguments = [
            "-D".into(),
            text(&data),
            "-U".into(),
            ADMIN.into(),
            "--auth=scram-sha-256".into(),
            "--no-sync".into(),
            "--encoding=UTF8".into(),
            "--locale=C".into(),
            format!("--pwfile={}", text(&password_file)),
        ];
        let making = start(&initdb, &arguments, folder.path(), &log)?;
        let made = making.wait().await;
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        ensure!(data.join("PG_VERSION").exists(), "initdb failed ({made:?}): {}", said());
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={}", text(&home)),
            "fsync=off".into(),
            "shared_buffers=16MB".into(),
            "max_connections=200".into(),
        ];
        let mut arguments = vec!["-D".to_owned(), text(&data)];
        arguments.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        let process = start(&server, &arguments, folder.path(), &log)?;
        let postgres = Self { port, password, psql, log, _process: process, _folder: folder };
        wait_for("PostgreSQL to answer", PATIENCE, async || postgres.sql("SELECT 1").await.map(Some))
            .await
            .with_context(|| std::fs::read_to_string(&postgres.log).unwrap_or_default())?;
        Ok(postgres)
    }

    /// For a database engine: with `{{username}}` and `{{password}}` to fill in.
    #[must_use]
    pub fn connection_url(&self) -> String {
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The administrator's name and password.
    #[must_use]
    pub fn admin(&self) -> (&str, &str) {
        (ADMIN, &self.password)
    }

    /// What the administrator is answered, one line a row.
    pub async fn sql(&self, statement: &str) -> Result<String> {
        self.ask(ADMIN, &self.password, statement).await
    }

    /// Whether this user may log in with this password.
    pub async fn accepts(&self, user: &str, password: &str) -> bool {
        self.ask(user, password, "SELECT 1").await.is_ok()
    }

    /// Every user but the administrator, in order.
    pub async fn users(&self) -> Result<Vec<String>> {
        let statement = format!("SELECT usename FROM pg_user WHERE usename <> '{ADMIN}' ORDER BY 1");
        Ok(self.sql(&statement).await?.lines().map(str::to_owned).collect())
    }

    async fn ask(&self, user: &str, password: &str, statement: &str) -> Result<String> {
        let answer = tokio::process::Command::new(&self.psql)
            .args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-d", "postgres"])
            .args(["-p", &self.port.to_string(), "-U", user, "-c", statement])
            .env("PGPASSWORD", password)
            .env("PGCONNECT_TIMEOUT", "10")
            .kill_on_drop(true)
            .output()
            .await
            .context("psql")?;
        ensure!(answer.status.success(), "psql: {}", String::from_utf8_lossy(&answer.stderr));
        Ok(String::from_utf8(answer.stdout)?.trim().to_owned())
    }
}

/// A role of a database engine that makes users who can log in.
#[must_use]
pub fn database_role(default_ttl: &str, max_ttl: &str) -> serde_json::Value {
    serde_json::json!({
        "db_name": "postgres",
        "creation_statements": [
            "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';",
        ],
        "revocation_statements": ["DROP ROLE IF EXISTS \"{{name}}\";"],
        "renew_statements": ["ALTER ROLE \"{{name}}\" VALID UNTIL '{{expiration}}';"],
        "default_ttl": default_ttl,
        "max_ttl": max_ttl,
    })
}

impl OpenBao {
    /// A database engine at `mount` that makes users in this PostgreSQL, for
    /// any role there (see [`database_role`]).
    pub async fn database(&self, postgres: &Postgres, mount: &str) -> Result<()> {
        let root = self.root()?;
        root.write(&format!("sys/mounts/{mount}"), &serde_json::json!({ "type": "database" })).await?;
        let (user, password) = postgres.admin();
        let config = serde_json::json!({
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "*",
            "connection_url": postgres.connection_url(),
            "username": user,
            "password": password,
            "password_authentication": "scram-sha-256",
        });
        root.write(&format!("{mount}/config/postgres"), &config).await?;
        Ok(())
    }
}

/// The machine's, or the one that `make peers` installed.
/// The folder of the pinned programs. Where they run as another user, a copy
/// that this one can get at: the cache lies in somebody's home.
fn programs(folder: &Path) -> Result<PathBuf> {
    let pinned = peers::program("postgres")?.canonicalize()?;
    let bin = pinned.parent().context("a program has a folder")?;
    if !is_root() {
        return Ok(bin.to_owned());
    }
    // The package: its libraries lie beside the installation.
    let whole = bin.ancestors().nth(3).context("a program's folder lies in a package")?;
    let copied = Command::new("cp").arg("-r").arg(whole).arg(folder.join("postgresql")).status()?;
    ensure!(copied.success(), "PostgreSQL could not be copied: {copied}");
    Ok(folder.join("postgresql").join(bin.strip_prefix(whole)?))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn start(program: &Path, arguments: &[String], folder: &Path, log: &Path) -> Result<Process> {
    let environment = server_environment(folder);
    if !is_root() {
        return Process::start(program, arguments, &environment, log);
    }
    let setpriv = on_machine("setpriv").context("setpriv (util-linux) is not installed")?;
    // The kernel forgets PR_SET_PDEATHSIG when the user changes: said again.
    let mut whole: Vec<OsString> = [
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".into(),
        "--pdeathsig=KILL".into(),
        "--".into(),
    ]
    .map(OsString::from)
    .into();
    whole.push(program.into());
    whole.extend(arguments.iter().map(OsString::from));
    Process::start(&setpriv, &whole, &environment, log)
}

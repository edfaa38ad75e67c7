//! A bot that asks PostgreSQL five times a second, on a new connection each
//! time, with the user and password of its environment. It notes each answer
//! as a line of a file: `ok`, or why not.
//!
//! It prints the user that it holds, never the password.

use std::{fs::OpenOptions, io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::{Config, NoTls};

const EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    let mut arguments = std::env::args().skip(1);
    let (port, folder, rounds) = match (arguments.next(), arguments.next(), arguments.next(), arguments.next()) {
        (Some(port), Some(folder), rounds, None) => (port.parse()?, PathBuf::from(folder), rounds),
        _ => bail!("usage: testbed-database-bot PORT FOLDER [ROUNDS]"),
    };
    // A job ends by itself.
    let rounds = rounds.map_or(Ok(u64::MAX), |rounds| rounds.parse())?;
    let user = std::env::var("username").context("no user")?;
    let password = std::env::var("password").context("no password")?;
    let mut database = Config::new();
    database.host("127.0.0.1").port(port).dbname("postgres").user(&user).password(password).connect_timeout(PATIENCE);
    let name = format!("{}-{}", std::env::var("HOSTNAME").unwrap_or_default(), std::process::id());
    let mut notes = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
    println!("holds={user}");
    for _ in 0..rounds {
        match ask(&database).await {
            Ok(()) => writeln!(notes, "ok")?,
            Err(error) => writeln!(notes, "{user}: {error:#}")?,
        }
        tokio::select! {
            _ = end.recv() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    Ok(())
}

async fn ask(database: &Config) -> Result<()> {
    let (client, connection) = database.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let answer = tokio::time::timeout(PATIENCE, client.query_one("SELECT current_user", &[])).await;
    drop(client);
    answer.context("no answer in time")??;
    connection.await??;
    Ok(())
}

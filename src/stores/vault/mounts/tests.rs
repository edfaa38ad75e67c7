use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, advance, pause, resume, sleep, timeout},
};

use super::{DOUBTED_AFTER, Engine, MOST_REFUSED, Mounts, REFUSED_FOR, lookup::parse};
use crate::{
    secret::SecretText,
    stores::{
        ClusterEndpoint, ErrorClass, HttpClients, Pace, StoreError,
        canned::answer,
        testing::opening,
        vault::{Reader, Vault},
    },
};

/// A Vault that has `kv` and `team/kv`, never answers about `slow`, and
/// what it was asked.
async fn peer() -> (Vault, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let spec = format!(
        r#"{{"address":"http://{}","auth":{{"kubernetes":{{"role":"bots"}}}}}}"#,
        listener.local_addr().expect("bound")
    );
    let spec = serde_json::from_str(&spec).expect("a store");
    let vault = Vault::new(&spec, &opening(&HttpClients::new(ClusterEndpoint::default()))).expect("valid");
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&seen)));
        }
    });
    (vault, asked)
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.expect("a request"));
    }
    let request = String::from_utf8(request).expect("text");
    let path = request.split(' ').nth(1).and_then(|path| path.strip_prefix("/v1/sys/internal/ui/mounts/"));
    let path = path.expect("a lookup").to_owned();
    seen.lock().expect("whole").push(path.clone());
    let mount = ["kv", "team/kv"].into_iter().find(|mount| path.starts_with(&format!("{mount}/")));
    let answer = match mount {
        _ if path.starts_with("slow/") => std::future::pending().await,
        Some(mount) => answer("200 OK", "", &format!(r#"{{"data":{{"path":"{mount}/","type":"kv"}}}}"#)),
        None => answer("403 Forbidden", "", r#"{"errors":["preflight capability check returned 403"]}"#),
    };
    let _ = stream.write_all(&answer).await;
}

fn reader(vault: &Vault, token: &str) -> Arc<Reader> {
    Arc::new(Reader {
        wire: Arc::clone(&vault.wire),
        engines: Arc::clone(&vault.engines),
        role: "role bots".into(),
        token: SecretText::new(token.into()),
        expires: Instant::now() + Duration::from_secs(3600),
        pace: Pace::default(),
    })
}

async fn class(reader: &Reader, path: &str) -> Option<ErrorClass> {
    reader.locate(path).await.err().map(|error| error.class)
}

#[tokio::test]
async fn p6_a_lookup_that_is_not_answered_holds_up_no_other() {
    let (vault, asked) = peer().await;
    let reader = reader(&vault, "s.1");
    for number in 0..20 {
        let reader = Arc::clone(&reader);
        tokio::spawn(async move { class(&reader, &format!("slow/{number}")).await });
    }
    while asked.lock().expect("whole").is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(timeout(Duration::from_secs(5), class(&reader, "kv/bot")).await, Ok(None));
    assert_eq!(asked.lock().expect("whole").len(), 2);
}

#[tokio::test]
async fn p6_a_refused_lookup_is_not_repeated_for_a_minute_and_says_nothing_about_others() {
    let (vault, asked) = peer().await;
    let count = || asked.lock().expect("whole").len();
    let (first, second) = (reader(&vault, "s.1"), reader(&vault, "s.2"));
    let paths: Vec<String> = (0..200).map(|number| format!("nope/{number}")).collect();
    let classes = futures::future::join_all(paths.iter().map(|path| class(&first, path))).await;
    assert!(classes.iter().all(|class| *class == Some(ErrorClass::Denied)), "{classes:?}");
    assert_eq!(count(), 1);
    // Another login of the role may see more.
    assert_eq!((class(&second, "nope/0").await, count()), (Some(ErrorClass::Denied), 2));
    // Beside a mount that is not there may be one that is.
    assert_eq!((class(&first, "team/nope/bot").await, count()), (Some(ErrorClass::Denied), 3));
    assert_eq!((class(&first, "team/kv/bot").await, count()), (None, 4));
    pause();
    advance(REFUSED_FOR).await;
    resume();
    assert_eq!((class(&first, "nope/0").await, count()), (Some(ErrorClass::Denied), 5));
}

#[tokio::test]
async fn a_mount_that_is_doubted_is_in_use_until_more_is_known() {
    let (vault, asked) = peer().await;
    let (reader, mounts) = (reader(&vault, "s.1"), &vault.engines.found);
    mounts.learn("slow", Engine::Two);
    mounts.learn("gone", Engine::Two);
    mounts.learn("team", Engine::Two);
    pause();
    advance(DOUBTED_AFTER).await;
    resume();
    for mount in ["slow", "gone", "team"] {
        mounts.doubt(mount);
    }
    // One looks again; who comes meanwhile is not kept waiting.
    let looking = Arc::clone(&reader);
    tokio::spawn(async move { class(&looking, "slow/bot").await });
    while asked.lock().expect("whole").is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let found = |mount: &str, engine| Ok((mount.to_owned(), engine));
    assert_eq!(reader.mount_of("slow/bot", "slow").await, found("slow", Engine::Two));
    assert_eq!(reader.mount_of("gone/bot", "gone").await, found("gone", Engine::Two));
    assert_eq!(reader.mount_of("team/kv/bot", "team/kv").await, found("team/kv", Engine::One));
    assert_eq!(mounts.find("team/other"), None);
}

#[test]
fn p6_what_is_remembered_of_lookups_is_bounded() {
    let (mounts, token) = (Mounts::default(), SecretText::new("s.1".into()));
    let error = |class| StoreError::new(class, "no");
    for number in 0..2 * MOST_REFUSED {
        mounts.refuse(mounts.refused(&token, &format!("nope/{number}")), &error(ErrorClass::Missing));
        drop(mounts.turn(&format!("nope/{number}")));
    }
    assert_eq!(super::locked(&mounts.refused).len(), MOST_REFUSED);
    assert_eq!(super::locked(&mounts.turns).len(), 1);
    // Outages pass.
    mounts.refuse(mounts.refused(&token, "kv"), &error(ErrorClass::Unavailable));
    assert_eq!(mounts.refusal(&mounts.refused(&token, "kv")), None);
}

#[test]
fn a_mounts_version_is_read_from_its_options() {
    let parsed = |options: &str| {
        let answer = format!(r#"{{"data":{{"path":"team/kv/","type":"kv","options":{options}}}}}"#);
        parse(answer.as_bytes(), "team/kv/bot")
    };
    assert_eq!(parsed(r#"{"version":"2"}"#).ok(), Some(("team/kv".to_owned(), Engine::Two)));
    assert_eq!(parsed("null").ok(), Some(("team/kv".to_owned(), Engine::One)));
    assert_eq!(parsed(r#"{"version":"3"}"#).err().map(|error| error.class), Some(ErrorClass::Invalid));
    let database = parse(br#"{"data":{"path":"database/","type":"database"}}"#, "database/bot");
    assert_eq!(database.err().map(|error| error.class), Some(ErrorClass::Invalid));
    let role = parse(br#"{"data":{"path":"database/","type":"database"}}"#, "database/static-creds/bot");
    assert_eq!(role.ok(), Some(("database".to_owned(), Engine::Database)));
}

#[test]
fn a_mount_begins_a_key_only_at_a_slash() {
    let mounts = Mounts::default();
    mounts.learn("team/kv", Engine::Two);
    assert_eq!(mounts.find("team/kv/bot"), Some(("team/kv".to_owned(), Engine::Two)));
    assert_eq!(mounts.find("team/kv-old/bot"), None);
    assert_eq!(mounts.find("team"), None);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_is_doubted_only_when_it_is_old() {
    let mounts = Mounts::default();
    mounts.learn("kv", Engine::One);
    mounts.doubt("kv");
    assert!(!mounts.take_doubt("kv"));
    advance(DOUBTED_AFTER).await;
    mounts.doubt("kv");
    assert!(mounts.find("kv/bot").is_some());
    assert!(mounts.take_doubt("kv"));
    assert!(!mounts.take_doubt("kv"), "one looks again");
}

#[test]
fn p4_a_mount_that_was_not_asked_about_is_not_named_in_an_error() {
    for answer in [
        r#"{"data":{"path":"hunter2/","type":"database"}}"#,
        r#"{"data":{"path":"hunter2/","type":"kv","options":{"version":"3"}}}"#,
        r#"{"data":{"path":"hunter2/","type":"kv"}}"#,
    ] {
        let error = parse(answer.as_bytes(), "kv/bot").expect_err("another mount");
        assert_eq!((error.class, error.message.contains("hunter2")), (ErrorClass::Unavailable, false), "{error}");
    }
}

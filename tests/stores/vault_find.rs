//! Vault: what is looked for instead of named, and custom metadata.

use std::collections::BTreeMap;

use botsecret::{
    fetch::ResolvedStore,
    stores::{ErrorClass, FindQuery, RemoteKey, StoreError},
};
use botsecret_testbed::BaoClient;
use serde_json::json;
use tokio::time::Instant;

use crate::world::{Bot, Outcome, refusal, shared_bao, text};

async fn find(bot: &Bot, store: &ResolvedStore, query: &FindQuery) -> Result<Vec<String>, StoreError> {
    bot.fetcher.find(store, &bot.account, query, Instant::now()).await
}

async fn metadata(bot: &Bot, store: &ResolvedStore, key: &str) -> Result<String, StoreError> {
    let key = RemoteKey { key: key.into(), version: None, metadata: true, dated: false };
    Ok(text(&*bot.read_all(store, &[key]).await.remove(0)?).to_owned())
}

fn path(path: &str) -> FindQuery {
    FindQuery { path: Some(path.into()), ..FindQuery::default() }
}

fn tagged<const N: usize>(tags: [(&str, &str); N]) -> FindQuery {
    let tags = tags.into_iter().map(|(tag, value)| (tag.to_owned(), value.to_owned())).collect();
    FindQuery { tags, ..FindQuery::default() }
}

const TREE: [&str; 6] = ["price-bot", "price-bot/live", "price-bot/deep/er/paper", "feed", "feed bot/a?b", "x/y"];

/// The tree in this version of the engine.
async fn plant(root: &BaoClient, mount: &str, version: u8) -> Outcome {
    root.enable_kv(mount, version).await?;
    for name in TREE {
        let path = name.replace(' ', "%20").replace('?', "%3F");
        if version == 2 {
            root.put_kv2(mount, &path, &json!({"key": name})).await?;
        } else {
            root.write(&format!("{mount}/{path}"), &json!({"key": name})).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn everything_below_a_path_is_found_in_both_versions_of_the_engine_and_can_be_read() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("find").await?);
    for version in [1, 2] {
        let mount = format!("{}/v{version}", bot.namespace);
        let policy = format!(r#"path "{mount}/*" {{ capabilities = ["read", "list"] }}"#);
        let root = bot.with_role(bao, &policy).await?;
        plant(&root, &mount, version).await?;

        // A store that names the mount: keys are below it.
        let mut store = bot.vault(bao, &json!({"path": mount}));
        store.uid = format!("with-{version}");
        let mut all = TREE.to_vec();
        all.sort_unstable();
        assert_eq!(find(&bot, &store, &FindQuery::default()).await?, all);
        let below = find(&bot, &store, &path("price-bot/")).await?;
        assert_eq!(below, ["price-bot/deep/er/paper", "price-bot/live"]);
        assert_eq!(find(&bot, &store, &path("nothing/here")).await?, [] as [&str; 0]);
        for key in find(&bot, &store, &path("feed bot")).await? {
            assert_eq!(text(&*bot.read(&store, &key).await?), r#"{"key":"feed bot/a?b"}"#);
        }

        // One that does not: they begin with it, and so does the path.
        let mut store = bot.vault(bao, &json!({}));
        store.uid = format!("without-{version}");
        let query = FindQuery { name: Some("bot/(live|a)".into()), ..path(&mount) };
        let found = find(&bot, &store, &query).await?;
        assert_eq!(found, [format!("{mount}/feed bot/a?b"), format!("{mount}/price-bot/live")]);
        assert_eq!(text(&*bot.read(&store, &found[1]).await?), r#"{"key":"price-bot/live"}"#);
        let message = refusal(find(&bot, &store, &FindQuery::default()).await, ErrorClass::Invalid);
        assert!(message.contains("find.path must begin with"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn p1_a_folder_that_may_not_be_listed_fails_the_whole_search_and_says_which_right_is_missing() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("find").await?);
    let mount = &bot.namespace;
    let granted = |more: &str| {
        format!(
            r#"path "{mount}/data/*" {{ capabilities = ["read"] }}
               path "{mount}/metadata/" {{ capabilities = ["list"] }}
               path "{mount}/metadata/+/" {{ capabilities = ["list"] }} {more}"#
        )
    };
    let root = bot.with_role(bao, &granted("")).await?;
    plant(&root, mount, 2).await?;
    let store = bot.vault(bao, &json!({"path": mount}));
    let message = refusal(find(&bot, &store, &FindQuery::default()).await, ErrorClass::Denied);
    assert!(message.contains(&format!("grant \"list\" on \"{mount}/metadata/price-bot/deep/\"")), "{message}");
    assert_eq!(find(&bot, &store, &path("x")).await?, ["x/y"]);
    // What it says is enough.
    let more = ["price-bot/deep", "price-bot/deep/er"]
        .map(|folder| format!(r#"path "{mount}/metadata/{folder}/" {{ capabilities = ["list"] }}"#));
    root.policy(mount, &granted(&more.concat())).await?;
    assert_eq!(find(&bot, &store, &FindQuery::default()).await?.len(), TREE.len());
    Ok(())
}

#[tokio::test]
async fn custom_metadata_is_looked_for_as_tags_and_read_in_place_of_a_value() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("metadata").await?);
    let mount = &bot.namespace;
    let list = format!(
        r#"path "{mount}/data/*" {{ capabilities = ["read"] }} path "{mount}/metadata/*" {{ capabilities = ["list"] }}"#
    );
    let root = bot.with_role(bao, &list).await?;
    plant(&root, mount, 2).await?;
    for (name, custom) in [
        ("price-bot", json!({"team": "trading", "tier": "1"})),
        ("feed", json!({"team": "trading", "tier": "2"})),
        ("x/y", json!({"team": "research", "tier": "1"})),
    ] {
        root.write(&format!("{mount}/metadata/{name}"), &json!({"custom_metadata": custom})).await?;
    }
    let store = bot.vault(bao, &json!({"path": mount}));
    let message = refusal(metadata(&bot, &store, "feed").await, ErrorClass::Denied);
    assert!(message.contains(&format!("grant \"read\" on \"{mount}/metadata/feed\"")), "{message}");
    refusal(find(&bot, &store, &tagged([("team", "trading")])).await, ErrorClass::Denied);
    root.policy(mount, &list.replace(r#"["list"]"#, r#"["list", "read"]"#)).await?;

    assert_eq!(find(&bot, &store, &tagged([("team", "trading")])).await?, ["feed", "price-bot"]);
    assert_eq!(find(&bot, &store, &tagged([("team", "trading"), ("tier", "1")])).await?, ["price-bot"]);
    assert_eq!(find(&bot, &store, &tagged([("team", "trad")])).await?, [] as [&str; 0]);
    let query = FindQuery { name: Some("^x/".into()), ..tagged([("tier", "1")]) };
    assert_eq!(find(&bot, &store, &query).await?, ["x/y"]);

    let owner: BTreeMap<String, String> = serde_json::from_str(&metadata(&bot, &store, "feed").await?)?;
    assert_eq!(owner, BTreeMap::from([("team".into(), "trading".into()), ("tier".into(), "2".into())]));
    assert_eq!(metadata(&bot, &store, "price-bot/live").await?, "{}", "there is none");
    refusal(metadata(&bot, &store, "nothing").await, ErrorClass::Missing);
    let pinned = RemoteKey { key: "feed".into(), version: Some("1".into()), metadata: true, dated: false };
    refusal(bot.read_all(&store, &[pinned]).await.remove(0), ErrorClass::Invalid);
    Ok(())
}

#[tokio::test]
async fn the_first_engine_has_no_metadata_to_read_or_to_look_for() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("metadata").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &format!(r#"path "{mount}/*" {{ capabilities = ["read", "list"] }}"#)).await?;
    plant(&root, mount, 1).await?;
    let store = bot.vault(bao, &json!({"path": mount}));
    for message in [
        refusal(metadata(&bot, &store, "feed").await, ErrorClass::Invalid),
        refusal(find(&bot, &store, &tagged([("team", "trading")])).await, ErrorClass::Invalid),
    ] {
        assert!(message.contains("keeps no metadata"), "{message}");
    }
    Ok(())
}

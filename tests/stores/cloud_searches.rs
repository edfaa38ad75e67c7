//! Searches in clouds that hold too much, or whose lists never end.

use std::time::Duration;

use botsecret::{
    api::Provider,
    fetch::ResolvedStore,
    stores::{ErrorClass, FindQuery},
};
use botsecret_testbed::{
    ALWAYS, FaultKind,
    clouds::{azure::LOGIN, scripted::Scripted},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::aws_world::Desk;
use crate::azure_world::{Azure, VAULT_HOST};
use crate::gcp_world::{World, secret};
use crate::world::{Bot, Outcome, from, refusal};

/// How a list goes on.
#[derive(Clone, Copy)]
enum Next {
    /// To another page each time.
    Another,
    /// To the page that was asked for.
    Itself,
}

impl Next {
    fn token(self, page: usize) -> String {
        match self {
            Self::Another => format!("page-{}", page + 1),
            Self::Itself => "page".to_owned(),
        }
    }
}

/// Names of one page, none of which is on another one.
fn names(page: usize, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("secret-{page}-{number}"))
}

fn query(path: Option<&str>) -> FindQuery {
    FindQuery { path: path.map(str::to_owned), ..FindQuery::default() }
}

/// What a search by this bot ends in, however slow the machine.
async fn ends(bot: &Bot, mut store: ResolvedStore, query: &FindQuery, class: ErrorClass) -> String {
    store.limits.timeout = Some(from(json!("60s")));
    refusal(bot.fetcher.find(&store, &bot.account, query, Instant::now()).await, class)
}

/// The list as each of AWS's three operations has it.
fn aws_page(target: &str, names: Vec<String>, next: &str) -> Value {
    let named: Vec<Value> = names.into_iter().map(|name| json!({"Name": name})).collect();
    let list = if target.ends_with("ListSecrets") { "SecretList" } else { "Parameters" };
    json!({list: named, "NextToken": next})
}

async fn aws(next: Next, count: usize) -> anyhow::Result<Scripted> {
    Scripted::start(move |page, question| {
        let target = question.headers.get("x-amz-target").map_or("", String::as_str);
        let names = names(page, count).map(|name| format!("/desk/{name}")).collect();
        (200, aws_page(target, names, &next.token(page)).to_string())
    })
    .await
}

#[tokio::test]
async fn p6_aws_a_search_ends_at_its_bound_of_pages_or_names_and_names_it() -> Outcome {
    let desk = Desk::new("wide").await?;
    let tagged = FindQuery { tags: [("a".to_owned(), "b".to_owned())].into(), ..FindQuery::default() };
    for (service, search, fat) in
        [("SecretsManager", query(None), 3), ("ParameterStore", query(Some("/desk")), 3), ("ParameterStore", tagged, 3)]
    {
        for (next, count, class, part, most) in [
            (Next::Another, 10, ErrorClass::TooLarge, "more than 100 pages", 100),
            (Next::Another, 4000, ErrorClass::TooLarge, "more than 10000 names", fat),
            (Next::Itself, 10, ErrorClass::Invalid, "at most 100 pages", 2),
        ] {
            let server = aws(next, count).await?;
            let store = desk.store(service, &json!({"endpoint": server.url()}));
            let message = ends(&desk.bot, store, &search, class).await;
            assert!(message.contains(part), "{service} {search:?}: {message}");
            assert_eq!(server.requests().len(), most, "{service} {search:?} {part}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn p6_gcp_a_search_ends_at_its_bound_of_pages_or_names_and_names_it() -> Outcome {
    let world = World::new("gcp-wide").await?;
    let none = FindQuery { name: Some("^none$".into()), ..FindQuery::default() };
    for (next, count, search, class, part, most) in [
        (Next::Another, 1000, none.clone(), ErrorClass::TooLarge, "more than 50 pages", 50),
        (Next::Another, 1000, query(None), ErrorClass::TooLarge, "more than 10000 names", 11),
        (Next::Itself, 1000, none, ErrorClass::Invalid, "at most 50 pages", 2),
    ] {
        let server = Scripted::start(move |page, _| {
            let secrets: Vec<Value> = names(page, count).map(|name| json!({"name": secret(&name)})).collect();
            (200, json!({"secrets": secrets, "nextPageToken": next.token(page)}).to_string())
        })
        .await?;
        let mut store = world.federated(&json!({}));
        if let Provider::Gcp(spec) = &mut store.provider {
            spec.endpoint = Some(server.url());
        }
        store.uid.push_str(&server.url());
        world.proxy.route(&server.address().to_string(), server.address());
        let message = ends(&world.bot, store, &search, class).await;
        assert!(message.contains(part), "{search:?}: {message}");
        assert_eq!(server.requests().len(), most, "{search:?} {part}");
    }
    Ok(())
}

#[tokio::test]
async fn p6_a_list_that_takes_longer_than_the_deadline_is_too_long_and_shuts_out_no_read() -> Outcome {
    let world = World::with("gcp-long", &["a"]).await?;
    let endless = Scripted::start(|page, question| {
        assert!(question.line.starts_with("GET /v1/projects/"), "{question:?}");
        (200, json!({"secrets": [], "nextPageToken": Next::Another.token(page)}).to_string())
    })
    .await?;
    let host = "secretmanager.googleapis.com";
    let (proxy, gcp) = (&world.proxy, world.gcp.address());
    let mut store = world.federated(&json!({}));
    store.limits.timeout = Some(from(json!("5s")));
    let find = async || {
        let found = world.bot.fetcher.find(&store, &world.bot.account, &query(None), Instant::now()).await;
        found.expect_err("no end")
    };
    proxy.route(host, endless.address());
    proxy.fault(host, FaultKind::Slow(Duration::from_millis(300)), ALWAYS);
    for _ in 0..2 {
        let error = find().await;
        assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
        assert!(error.message.contains("within 5s") && error.message.contains("limits.timeout"), "{error}");
    }
    proxy.clear(host);
    proxy.route(host, gcp);
    world.bot.read(&store, "a").await?;
    Ok(())
}

#[tokio::test]
async fn p6_azure_a_search_ends_at_its_bound_of_pages_or_names_and_names_it() -> Outcome {
    let bot = Bot::new("azure-wide").await?;
    for (next, count, search, class, part, most) in [
        (Next::Another, 25, query(Some("none")), ErrorClass::TooLarge, "more than 400 pages", 400),
        (Next::Another, 4000, query(None), ErrorClass::TooLarge, "more than 10000 names", 3),
        (Next::Itself, 25, query(Some("none")), ErrorClass::Invalid, "at most 400 pages", 2),
    ] {
        let azure = Azure::start(&bot).await?;
        azure.may_read(&bot, "client-a", &[]);
        let server = Scripted::start(move |page, question| {
            if !question.headers.contains_key("authorization") {
                return (401, String::new());
            }
            let items: Vec<Value> = names(page, count)
                .map(|name| json!({"id": format!("https://{VAULT_HOST}/secrets/{name}"), "attributes": {}}))
                .collect();
            let link = format!("https://{VAULT_HOST}/secrets?api-version=7.5&$skiptoken={}", next.token(page));
            (200, json!({"value": items, "nextLink": link}).to_string())
        })
        .await?;
        let challenge = format!("Bearer authorization=\"https://{LOGIN}/tenant-a\", resource=\"https://vault.test\"");
        azure.proxy.fault_on(
            VAULT_HOST,
            "GET /secrets?",
            FaultKind::answer(401, &[("www-authenticate", &challenge)], ""),
            1,
        );
        azure.proxy.route(VAULT_HOST, server.address());
        let mut store = azure.store_of(&bot, "client-a");
        store.uid.push_str(&server.url());
        let message = ends(&bot, store, &search, class).await;
        assert!(message.contains(part), "{search:?}: {message}");
        assert_eq!(server.requests().len(), most, "{search:?} {part}");
    }
    Ok(())
}

//! The vendor's own clients take the stand-in for Google Cloud for Google
//! Cloud, and its answers are as Google's discovery documents say.

use botsecret_testbed::{
    clouds::gcp::Role,
    tokens::{ClusterKeys, claims, foreign_token},
};
use serde_json::json;

use crate::{
    gcp_world::{NUMBER, PROJECT, World, principal, provider},
    python::accepts,
    world::Outcome,
};

const READER: &str = "reader@trading-prod.iam.gserviceaccount.com";
const ADMIN: &str = "admin@trading-prod.iam.gserviceaccount.com";

#[tokio::test]
async fn gcp_the_vendors_python_clients_and_discovery_documents_accept_the_stand_in() -> Outcome {
    let world = World::with("gcp-python", &["mine"]).await?;
    let (gcp, bot) = (&world.gcp, &world.bot);
    let whole = format!("projects/{PROJECT}");
    for (email, role) in [(READER, Role::Accessor), (ADMIN, Role::Admin)] {
        gcp.service_account(email);
        gcp.grant(&format!("serviceAccount:{email}"), role, &whole);
    }
    gcp.allow_impersonation(&principal(&bot.account), READER);
    let audience = format!("https:{}", provider());
    let issuer = ClusterKeys::fetch(bot.cluster).await?.issuer().to_owned();
    let expired = claims(&issuer, &bot.namespace, "bot", &audience, -5);
    let forged = claims(&issuer, &bot.namespace, "bot", &audience, 600);
    let arguments = json!({
        "project": PROJECT, "number": NUMBER, "provider": provider(), "email": READER, "stranger": ADMIN,
        "key": gcp.key(ADMIN)?,
        "token": bot.cluster.service_account_token(&bot.namespace, "bot", &[&audience], 600).await?,
        "bad": [
            bot.cluster.sign_token(&expired).await?,
            foreign_token(bot.cluster, &forged).await?,
            bot.cluster.service_account_token(&bot.namespace, "bot", &["vault"], 600).await?,
        ],
    });
    accepts("gcp-python", "gcp_clients.py", &world.proxy, arguments).await?;
    assert!(world.proxy.requests().len() > 60, "they came through the proxy");
    Ok(())
}

//! The vendor's own clients take the stand-in for Azure for Azure.

use botsecret_testbed::clouds::azure::{AUDIENCE, LOGIN, Secret};
use serde_json::json;

use crate::{
    azure_world::{Azure, TENANT, VAULT, VAULT_HOST},
    python::accepts,
    world::{Bot, Outcome},
};

#[tokio::test]
async fn azure_the_vendors_python_clients_accept_the_stand_in() -> Outcome {
    let bot = Bot::new("azure-python").await?;
    let azure = Azure::start(&bot).await?;
    azure.cloud.trust(TENANT, "client-a", &bot.namespace, "bot");
    azure.cloud.client_secret(TENANT, "client-a", "password");
    azure.cloud.client(TENANT, "stranger");
    for permission in ["get", "list", "set", "delete", "recover"] {
        azure.cloud.grant(VAULT, "client-a", &format!("secrets/{permission}"), None);
    }
    for permission in ["keys/get", "certificates/get"] {
        azure.cloud.grant(VAULT, "client-a", permission, None);
    }
    azure.cloud.key(VAULT, "signing")?;
    let pem = Secret { content_type: Some("application/x-pem-file".into()), ..Secret::of("-----BEGIN\n") };
    azure.cloud.certificate(VAULT, "tls", b"der", pem);
    let token = bot.cluster.service_account_token(&bot.namespace, "bot", &[AUDIENCE], 600).await?;
    let arguments = json!({
        "authority": format!("https://{LOGIN}"), "vault": format!("https://{VAULT_HOST}"), "tenant": TENANT,
        "client": "client-a", "stranger": "stranger", "secret": "password", "token": token,
    });
    accepts("azure-python", "azure_clients.py", &azure.proxy, arguments).await?;
    assert!(azure.asked(VAULT_HOST) > 10, "they came through the proxy");
    Ok(())
}

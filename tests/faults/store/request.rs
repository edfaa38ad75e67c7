//! Requests, out of HTTP.

use std::collections::BTreeMap;

use hyper::{Method, header};
use reqwest::Url;
use serde_json::Value;

use super::{Key, Kind, Refusal};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    MergePatch,
    Apply,
    Delete,
}

impl Verb {
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// A request, its path and query taken apart.
#[derive(Clone, Debug)]
pub struct Request {
    pub kind: &'static Kind,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
    pub verb: Verb,
    pub query: BTreeMap<String, String>,
    /// Only the metadata is wanted.
    pub metadata_only: bool,
    pub user_agent: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn parse(parts: &hyper::http::request::Parts, body: Vec<u8>) -> Result<Self, Refusal> {
        let unknown = || Refusal::new(404, "NotFound", "the server could not find the requested resource");
        let url = Url::parse(&format!("http://memory{}", parts.uri)).map_err(|_| unknown())?;
        let segments: Vec<&str> = url.path_segments().ok_or_else(unknown)?.collect();
        let (group, rest) = match segments.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return Err(unknown()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return Err(unknown()),
        };
        let kind = Kind::find(group, plural).ok_or_else(unknown)?;
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let query: BTreeMap<_, _> = url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
        let content_type = header(header::CONTENT_TYPE);
        let watched = query.get("watch").is_some_and(|value| value == "true" || value == "1");
        let verb = match (&parts.method, name.is_empty()) {
            (&Method::GET, true) if watched => Verb::Watch,
            (&Method::GET, true) => Verb::List,
            (&Method::GET, false) => Verb::Get,
            (&Method::POST, _) => Verb::Create,
            (&Method::PUT, false) => Verb::Update,
            (&Method::DELETE, false) => Verb::Delete,
            (&Method::PATCH, false) if content_type.starts_with("application/apply-patch") => Verb::Apply,
            (&Method::PATCH, false) if content_type.starts_with("application/merge-patch") => Verb::MergePatch,
            _ => {
                let message = "the server does not allow this method on the requested resource";
                return Err(Refusal::new(405, "MethodNotAllowed", message));
            }
        };
        Ok(Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            verb,
            metadata_only: header(header::ACCEPT).contains("as=PartialObjectMetadata"),
            user_agent: header(header::USER_AGENT).to_owned(),
            query,
            body,
        })
    }

    pub fn key(&self) -> Key {
        Key { plural: self.kind.plural, namespace: self.namespace.clone(), name: self.name.clone() }
    }

    pub fn asked(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Who the written fields are said to belong to.
    pub fn manager(&self) -> String {
        let agent = self.user_agent.split('/').next().filter(|agent| !agent.is_empty()).unwrap_or("unknown");
        self.asked("fieldManager").unwrap_or(agent).to_owned()
    }

    pub fn object(&self) -> Result<Value, Refusal> {
        let value: Value = serde_json::from_slice(&self.body).map_err(|_| Refusal::bad("the body is not JSON"))?;
        if value.is_object() { Ok(value) } else { Err(Refusal::bad("the body is not an object")) }
    }

    /// For people.
    pub fn label(&self) -> String {
        let verb = match self.verb {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::MergePatch => "patch",
            Verb::Apply => "apply",
            Verb::Delete => "delete",
        };
        let slash = |part: &str| if part.is_empty() { String::new() } else { format!("/{part}") };
        format!("{verb} {}{}{}", self.kind.plural, slash(&self.name), slash(&self.subresource))
    }
}

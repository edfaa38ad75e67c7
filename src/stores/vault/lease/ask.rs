//! Requests that vaultrs has no endpoint for.

use rustify::{
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError,
};

/// One request of any path, as vaultrs's own are.
pub(in super::super) struct Ask {
    pub(super) path: String,
    method: RequestMethod,
    pub(super) body: Option<serde_json::Value>,
}

impl Ask {
    pub(in super::super) fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), method: RequestMethod::GET, body: None }
    }

    pub(in super::super) fn post(path: impl Into<String>, body: serde_json::Value) -> Self {
        Self { path: path.into(), method: RequestMethod::POST, body: Some(body) }
    }
}

impl Endpoint for Ask {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.body.as_ref().map(|body| body.to_string().into_bytes()))
    }
}

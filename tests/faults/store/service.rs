//! The store as what kube's client speaks to.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use tower::{BoxError, Service};

use super::{Actor, Answer, Request, Store, watch};

type Stream = Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>>;
/// An answer's body: whole, or a watch.
pub type Reply = hyper::Response<Either<Full<Bytes>, StreamBody<Stream>>>;

/// The HTTP front of a store, for one asker.
#[derive(Clone, Debug)]
pub struct Front {
    store: Store,
    by: Actor,
}

impl Front {
    pub fn new(store: &Store, by: Actor) -> Self {
        Self { store: store.clone(), by }
    }

    /// The request as the store knows it.
    pub async fn read(request: hyper::Request<Body>) -> Result<Result<Request, super::Refusal>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        Ok(Request::parse(&parts, body))
    }

    /// The store's answer over HTTP.
    pub fn answer(&self, request: &Request) -> Result<Reply, BoxError> {
        Self::reply(&self.store, self.store.respond(request, self.by))
    }

    pub fn reply(store: &Store, answer: Answer) -> Result<Reply, BoxError> {
        let code = answer.code();
        let body = match answer {
            Answer::Object(_, object) => Either::Left(Full::new(Bytes::from(object.to_string()))),
            Answer::Watch(watch) => {
                let stream: Stream = Box::pin(watch::stream(store.clone(), *watch));
                Either::Right(StreamBody::new(stream))
            }
        };
        Ok(hyper::Response::builder().status(code).header("content-type", "application/json").body(body)?)
    }
}

impl Service<hyper::Request<Body>> for Front {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move {
            match Self::read(request).await? {
                Ok(request) => front.answer(&request),
                Err(refusal) => Self::reply(&front.store, refusal.into()),
            }
        })
    }
}

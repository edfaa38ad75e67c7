//! A server that answers what a test says: for what no peer does on demand,
//! such as a list that never ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cluster::lock;
use crate::runtime;

const LARGEST_REQUEST: usize = 1 << 20;

/// One request.
#[derive(Clone, Debug)]
pub struct Question {
    /// Method, and path with query: `GET /secrets?page=2`.
    pub line: String,
    /// By their names in small letters; what is no text is left out.
    pub headers: BTreeMap<String, String>,
    /// As text.
    pub body: String,
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The whole body.
    pub body: String,
}

impl From<(u16, String)> for Reply {
    fn from((status, body): (u16, String)) -> Self {
        Self { status, body, ..Self::default() }
    }
}

type Answer = dyn Fn(usize, &Question) -> Reply + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    asked: Mutex<Vec<Question>>,
}

/// A running server, by plain HTTP; dropped, it is gone.
pub struct Scripted {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripted").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Scripted {
    /// Answers each request, told how many there were before it; a status and
    /// a body of JSON are enough.
    pub async fn start<R: Into<Reply>>(answer: impl Fn(usize, &Question) -> R + Send + Sync + 'static) -> Result<Self> {
        let answer = Box::new(move |before, question: &Question| answer(before, question).into());
        let shared = Arc::new(Shared { answer, asked: Mutex::default() });
        let state = Arc::clone(&shared);
        let (address, task) = runtime::run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let router = Router::new().fallback(serve).with_state(state);
            let served = async move {
                // Ends with its task; nobody waits for it.
                let _ = axum::serve(listener, router).await;
            };
            Ok((address, tokio::spawn(served)))
        })
        .await?;
        Ok(Self { shared, address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked, in its order.
    #[must_use]
    pub fn requests(&self) -> Vec<Question> {
        lock(&self.shared.asked).clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, LARGEST_REQUEST).await.unwrap_or_default();
    let headers = head.headers.iter();
    let question = Question {
        line: format!("{} {}", head.method, head.uri.path_and_query().map_or("", |path| path.as_str())),
        headers: headers
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let before = {
        let mut asked = lock(&shared.asked);
        asked.push(question.clone());
        asked.len() - 1
    };
    let Reply { status, headers, body } = (shared.answer)(before, &question);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

//! The HTTP listener: `/metrics`, `/livez`, `/readyz`, `/status`.
//!
//! Never asks Kafka or ClickHouse anything: it shows what the workers last said.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::logs::RateLimit;
use super::{Recorder, Status};

const UPKEEP_EVERY: Duration = Duration::from_secs(5);
const WARN_EVERY: Duration = Duration::from_secs(60);
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen}: {reason}; set `http.listen` (ONECODE_HTTP__LISTEN) to a free address")]
pub struct ListenError {
    listen: SocketAddr,
    reason: io::Error,
}

/// What the pages show.
#[derive(Clone, Debug)]
struct Shown {
    status: Arc<Status>,
    recorder: Recorder,
}

/// A bound listener: a taken port is an error at start, before any task is taken over.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shown: Shown,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When another process has it.
    pub async fn bind(listen: SocketAddr, status: Arc<Status>, recorder: Recorder) -> Result<Server, ListenError> {
        let listener = TcpListener::bind(listen).await.map_err(|reason| ListenError { listen, reason })?;
        Ok(Server { listener, shown: Shown { status, recorder } })
    }

    /// Where it listens: the configured address, with the port that was given for port 0.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the future is dropped.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(self) -> io::Result<()> {
        let shown = self.shown.clone();
        let router = Router::new()
            .route("/", get(index))
            .route("/metrics", get(metrics_page))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/status", get(status_page))
            .with_state(self.shown);
        let upkeep = async {
            let mut interval = tokio::time::interval(UPKEEP_EVERY);
            let mut warnings = RateLimit::new(WARN_EVERY);
            loop {
                interval.tick().await;
                shown.recorder.upkeep();
                if let Some(above) = shown.recorder.state_above_limit(&shown.status)
                    && warnings.admit(Instant::now()).is_some()
                {
                    tracing::warn!(above, "the state takes more memory than `limits.state_bytes`: add instances, or memory and raise it");
                }
            }
        };
        tokio::select! {
            result = axum::serve(self.listener, router).into_future() => result,
            () = upkeep => Ok(()),
        }
    }
}

async fn index() -> &'static str {
    "onecode\n/metrics\n/livez\n/readyz\n/status\n"
}

async fn metrics_page(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], shown.recorder.render(&shown.status))
}

async fn livez(State(shown): State<Shown>) -> impl IntoResponse {
    answer(shown.status.stuck_worker())
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    answer(shown.status.not_ready())
}

async fn status_page(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, JSON_TYPE)], shown.status.to_json().to_string())
}

fn answer(trouble: Option<String>) -> (StatusCode, String) {
    match trouble {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

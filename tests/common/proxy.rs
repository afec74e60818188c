//! A proxy before a server that can lose answers: the request was carried out, and whoever sent it does not know.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};

/// Passes bytes on between clients and a server, for as long as the test program runs.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    answers: Arc<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    to_lose: AtomicUsize,
    lost: AtomicUsize,
}

impl Answers {
    /// Whether this one is lost.
    fn is_lost(&self) -> bool {
        let is_lost = self.to_lose.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        self.lost.fetch_add(usize::from(is_lost), Ordering::Relaxed);
        is_lost
    }
}

impl Proxy {
    /// Starts a proxy before the server at `http://host:port`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(server_url: &str) -> Result<Proxy> {
        let server = server_url.strip_prefix("http://").context("a proxy needs an http address")?.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for a proxy")?;
        let url = format!("http://{}", listener.local_addr()?);
        let answers = Arc::<Answers>::default();
        let shared = answers.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is away shows as a connection that ends at once.
                if let Ok(upstream) = TcpStream::connect(&server) {
                    join(client, upstream, &shared);
                }
            }
        });
        Ok(Proxy { url, answers })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Loses the next so many answers, and closes their connections.
    pub fn lose_answers(&self, count: usize) {
        self.answers.to_lose.store(count, Ordering::Relaxed);
    }

    /// Answers lost so far.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.answers.lost.load(Ordering::Relaxed)
    }
}

/// Passes bytes on in both directions until one side ends. A connection that breaks is what the test is about.
fn join(client: TcpStream, upstream: TcpStream, answers: &Arc<Answers>) {
    let (Ok(from_client), Ok(to_upstream)) = (client.try_clone(), upstream.try_clone()) else { return };
    std::thread::spawn(move || pass_on(from_client, to_upstream, || false));
    let shared = answers.clone();
    std::thread::spawn(move || pass_on(upstream, client, || shared.is_lost()));
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, is_lost: impl Fn() -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if is_lost() {
            break;
        }
        let Some(piece) = buffer.get(..length) else { break };
        if to.write_all(piece).is_err() {
            break;
        }
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}

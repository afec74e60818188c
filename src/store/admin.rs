//! Statements and small queries against ClickHouse: what migrations, checks and audits need.
//!
//! Promises that an error names the server, the statement and what to do, and never a password. Never inserts rows of the pipeline.

use std::time::Duration;

use clickhouse::{Client, RowOwned, RowRead};

use crate::config::ClickHouse;

/// Longest part of a statement that an error quotes, in characters.
const QUOTED_CHARS: usize = 160;

/// Unknown user, password required, authentication failed: ClickHouse's numbers. The server adds a page of advice to them.
const LOGIN_CODES: [u32; 3] = [192, 194, 516];

/// `UNKNOWN_DATABASE`.
const UNKNOWN_DATABASE_CODE: u32 = 81;

/// `MEMORY_LIMIT_EXCEEDED`.
const MEMORY_CODE: u32 = 241;

/// A connection to ClickHouse for statements and small queries. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    url: String,
    database: String,
    timeout: Duration,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("url", &self.url).field("database", &self.database).finish_non_exhaustive()
    }
}

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No answer: the network, the address, or a server that is down.
    #[error("cannot reach ClickHouse at {url}: {reason}; check `clickhouse.url` and whether the server runs")]
    Unreachable {
        /// Of the HTTP interface.
        url: String,
        /// The client's words.
        reason: String,
    },
    /// The server does not know the user, or not with this password.
    #[error("ClickHouse at {url} refuses the user or the password: {reason}; check `clickhouse.user` and `clickhouse.password_file`")]
    Login {
        /// Of the HTTP interface.
        url: String,
        /// The server's words.
        reason: String,
    },
    /// The database does not exist.
    #[error("database `{database}` does not exist in ClickHouse at {url}; run `onecode migrate`")]
    NoDatabase {
        /// Of the HTTP interface.
        url: String,
        /// As configured.
        database: String,
    },
    /// No answer in time.
    #[error("ClickHouse at {url} did not answer within {} s: {statement}; raise `clickhouse.query_timeout_ms` or find out what keeps it busy", timeout.as_secs())]
    TimedOut {
        /// Of the HTTP interface.
        url: String,
        /// As configured.
        timeout: Duration,
        /// Its beginning.
        statement: String,
    },
    /// The query needs more memory than it may take, or than the server has.
    #[error(
        "ClickHouse at {url} has too little memory for a query: {reason} (statement: {statement}); let an audit take more with `--memory-mib`, up to what the server has, or audit one brand or some days"
    )]
    Memory {
        /// Of the HTTP interface.
        url: String,
        /// The server's words.
        reason: String,
        /// Its beginning.
        statement: String,
    },
    /// The server refused the statement, or its answer was not understood.
    #[error("ClickHouse at {url} failed: {reason} (statement: {statement})")]
    Failed {
        /// Of the HTTP interface.
        url: String,
        /// The server's words.
        reason: String,
        /// Its beginning.
        statement: String,
    },
}

impl Admin {
    /// For the configured server, user and database. Connects with the first statement.
    pub fn new(config: &ClickHouse) -> Admin {
        let client = Client::default().with_url(&config.url).with_user(&config.user).with_database(&config.database);
        let client = if config.password.is_empty() { client } else { client.with_password(config.password.expose()) };
        Admin { client, url: config.url.clone(), database: config.database.clone(), timeout: config.query_timeout }
    }

    /// The same server without a current database: to create it.
    pub fn without_database(config: &ClickHouse) -> Admin {
        Admin::new(&ClickHouse { database: "default".to_owned(), ..config.clone() })
    }

    /// The same connection with a setting of ClickHouse for every statement.
    pub fn with_setting(mut self, name: &str, value: impl ToString) -> Admin {
        self.client = self.client.with_setting(name, value.to_string());
        self
    }

    /// The same connection that waits for an answer at least so long, whatever `clickhouse.query_timeout_ms` says.
    pub fn with_patience(self, least: Duration) -> Admin {
        Admin { timeout: self.timeout.max(least), ..self }
    }

    /// The connection itself, for inserts.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The current database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The address, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs one statement without a result. `?` has no meaning of its own.
    ///
    /// # Errors
    /// [`AdminError`]; after a timeout the statement may still be running.
    pub async fn execute(&self, statement: &str) -> Result<(), AdminError> {
        self.within(statement, self.client.query_raw(statement).execute()).await
    }

    /// Runs one query and collects its rows.
    ///
    /// # Errors
    /// [`AdminError`], also when the columns do not fit `T`.
    pub async fn rows<T: RowOwned + RowRead>(&self, query: &str) -> Result<Vec<T>, AdminError> {
        self.within(query, self.client.query_raw(query).fetch_all::<T>()).await
    }

    /// Runs one query and visits its rows as they come: they borrow from the answer, of which no more than a piece is held. Ends with the
    /// first error of a visit.
    ///
    /// # Errors
    /// As [`Admin::rows`], and what a visit says.
    pub async fn each<T: RowRead, E: From<AdminError>>(
        &self,
        query: &str,
        mut visit: impl FnMut(T::Value<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let visit_all = async {
            let mut cursor = self.client.query_raw(query).fetch::<T>()?;
            while let Some(row) = cursor.next().await? {
                if let Err(error) = visit(row) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        };
        self.within(query, visit_all).await?
    }

    /// Runs one query that has exactly one row.
    ///
    /// # Errors
    /// As [`Admin::rows`], and when there is no row.
    pub async fn row<T: RowOwned + RowRead>(&self, query: &str) -> Result<T, AdminError> {
        self.within(query, self.client.query_raw(query).fetch_one::<T>()).await
    }

    /// Runs one query and collects its answer in RowBinary.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn bytes(&self, query: &str) -> Result<Vec<u8>, AdminError> {
        let collect = async {
            let mut cursor = self.client.query_raw(query).fetch_bytes("RowBinary")?;
            let mut bytes = Vec::new();
            while let Some(piece) = cursor.next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        };
        self.within(query, collect).await
    }

    async fn within<T>(&self, statement: &str, work: impl Future<Output = Result<T, clickhouse::error::Error>>) -> Result<T, AdminError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result.map_err(|error| self.explain(statement, &error)),
            Err(_) => Err(AdminError::TimedOut { url: self.url.clone(), timeout: self.timeout, statement: quoted(statement) }),
        }
    }

    fn explain(&self, statement: &str, error: &clickhouse::error::Error) -> AdminError {
        let url = self.url.clone();
        let reason = with_sources(error);
        match error {
            clickhouse::error::Error::Network(_) => return AdminError::Unreachable { url, reason },
            clickhouse::error::Error::TimedOut => {
                return AdminError::TimedOut { url, timeout: self.timeout, statement: quoted(statement) };
            }
            _ => {}
        }
        // The number, not the name: a server that is out of memory may have too little to write more than the header that has the number.
        match error_code(&reason) {
            Some(code) if LOGIN_CODES.contains(&code) => AdminError::Login { url, reason: first_line(&reason) },
            Some(UNKNOWN_DATABASE_CODE) => AdminError::NoDatabase { url, database: self.database.clone() },
            Some(MEMORY_CODE) => AdminError::Memory { url, reason: first_line(&reason), statement: quoted(statement) },
            _ => AdminError::Failed { url, reason, statement: quoted(statement) },
        }
    }
}

/// A text as a literal of ClickHouse's SQL.
pub fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for character in text.chars() {
        if matches!(character, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('\'');
    quoted
}

/// A name as an identifier of ClickHouse's SQL.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

fn quoted(statement: &str) -> String {
    let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or(&line)),
        None => line,
    }
}

/// ClickHouse's number of an error: 60 of "Code: 60. DB::Exception: …".
pub fn error_code(error: &str) -> Option<u32> {
    let (_, rest) = error.split_once("Code: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_end().to_owned()
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_identifiers_cannot_break_out() {
        assert_eq!(literal(r"it's a \ test"), r"'it\'s a \\ test'");
        assert_eq!(identifier("a`b"), "`a\\`b`");
    }

    #[test]
    fn errors_are_known_by_their_numbers_with_and_without_words() {
        let text = "[kafka]\nbrokers = \"127.0.0.1:9092\"\n";
        let config = crate::config::Config::from_text(text, std::path::Path::new("onecode.toml"), []).expect("a configuration");
        let admin = Admin::new(&config.clickhouse);
        let explain = |reason: &str| admin.explain("SELECT 1", &clickhouse::error::Error::BadResponse(reason.to_owned()));
        for memory in ["Code: 241", "Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED) (version 25.8)"] {
            assert!(matches!(explain(memory), AdminError::Memory { .. }), "{memory}");
        }
        assert!(matches!(explain("Code: 516. DB::Exception: default: Authentication failed"), AdminError::Login { .. }));
        assert!(matches!(explain("Code: 81"), AdminError::NoDatabase { .. }));
        for other in ["Code: 2410", "Code: 60. DB::Exception: Unknown table", "502 Bad Gateway"] {
            assert!(matches!(explain(other), AdminError::Failed { .. }), "{other}");
        }
    }

    #[test]
    fn a_long_statement_is_cut_in_messages() {
        let long = format!("SELECT\n   {}", "é".repeat(500));
        let short = quoted(&long);
        assert!(short.starts_with("SELECT é") && short.ends_with("...") && short.chars().count() == QUOTED_CHARS + 3, "{short}");
        assert_eq!(quoted("SELECT\n 1"), "SELECT 1");
    }
}

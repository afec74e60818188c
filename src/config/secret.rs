//! Text that is never shown.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What stands in for a secret wherever a configuration is shown.
pub(crate) const REDACTED: &str = "<redacted>";

/// A password or key. Its `Debug`, `Display` and serialised forms do not contain it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { REDACTED }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

/// Whether an option of `kafka.client` holds a secret, by its librdkafka name.
pub(crate) fn is_secret_client_option(option: &str) -> bool {
    const PARTS: [&str; 8] = ["password", "secret", "key.pem", "ssl_key", "jaas", "token", "passphrase", "oauthbearer.config"];
    PARTS.iter().any(|part| option.contains(part)) && option != "sasl.oauthbearer.token.endpoint.url"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_its_debug_display_or_serialised_form() {
        let secret = Secret::new("hunter2");
        let shown = format!("{secret:?} {secret} {}", serde_json::to_string(&secret).expect("a string"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn librdkafka_options_with_secrets_are_known() {
        for option in [
            "sasl.password",
            "ssl.key.password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
        ] {
            assert!(is_secret_client_option(option), "{option}");
        }
        for option in ["sasl.username", "ssl.key.location", "ssl.ca.location", "sasl.oauthbearer.token.endpoint.url"] {
            assert!(!is_secret_client_option(option), "{option}");
        }
    }
}

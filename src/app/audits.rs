//! Shows the newest verdict of `onecode audit` in the metrics of a running pipeline.

use std::time::Duration;

use crate::audit::verdicts;
use crate::store::Admin;
use crate::telemetry::events;

const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Looks for new verdicts until the runtime ends. While ClickHouse does not answer the last one stands.
pub(super) async fn show_verdicts(admin: Admin) {
    let mut interval = tokio::time::interval(LOOK_EVERY);
    loop {
        interval.tick().await;
        match verdicts::newest(&admin).await {
            Ok(Some(verdict)) => events::audited(verdict.differences),
            Ok(None) => {}
            Err(error) => tracing::debug!("the newest audit is not known: {error}"),
        }
    }
}

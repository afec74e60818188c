//! The audit of a few customers while the pipeline runs: their own facts recounted from the archive, and looked at again.
//!
//! What differs at the first look may be on its way. So the second look waits until every record that was there at the first one is
//! in a checkpoint, relays included; a checkpoint comes after the rows that belong to it. Who then differs in the same way by the same
//! archive is wrong: nothing is missing that could mend it. Who differs in another way is looked at again. Promises that no time
//! decides; time only ends the waiting, and then the customer is told as not settled, which is no difference.
//!
//! Leaves out what depends on others' events (who brought whom, visits to shares): the audit of all tables compares that at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::events::Conflicts;
use super::log::{LogAuditError, Logs, Snapshot};
use super::report::{Key, Report, RowDifference, TableReport};
use super::{AuditError, AuditOptions, Scope, compare, find_conflicts, open, tables};
use crate::config::Config;
use crate::store::{Admin, literal};

/// Between two looks at where the tasks stand.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So often a customer is looked at while it keeps changing.
const MOST_LOOKS: usize = 8;

/// Brand and customer.
pub type Who = (String, String);

/// What a round found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Differences that stand.
    pub report: Report,
    /// How many customers were looked at.
    pub customers: usize,
    /// Those that differed and kept changing, or whose records no checkpoint reached in time.
    pub unsettled: usize,
}

/// Audits samples, and keeps those that differed in every later sample.
#[derive(Debug)]
pub struct Sampler {
    admin: Admin,
    options: AuditOptions,
    size: usize,
    settle_within: Duration,
    wrong: BTreeSet<Who>,
}

/// The differences of one look, by table and key, with the table's name.
type Found = BTreeMap<(&'static str, Key), RowDifference>;

impl Sampler {
    /// Of `size` customers a round; a difference is waited for at most `settle_within`.
    ///
    /// # Errors
    /// [`AuditError`]: when there is no archive of everything, or the tables are others.
    pub async fn new(config: &Config, options: AuditOptions, size: usize, settle_within: Duration) -> Result<Sampler, AuditError> {
        let admin = open(config, &options).await?;
        Ok(Sampler { admin, options, size, settle_within, wrong: BTreeSet::new() })
    }

    /// Audits the customers that `seed` picks, and those that were wrong before.
    ///
    /// # Errors
    /// [`AuditError`] when a server cannot be asked.
    pub async fn round(&mut self, config: &Config, seed: u64) -> Result<Round, AuditError> {
        let mut sample: BTreeSet<Who> = self.pick(seed).await?.into_iter().collect();
        sample.extend(self.wrong.iter().cloned());
        let customers = sample.len();
        let mut report = Report { tables: Vec::new(), left_out_customers: 0, conflicts: Vec::new() };
        let mut before = Found::new();
        let mut stands = Found::new();
        let until = Instant::now() + self.settle_within;
        let mut rest: Vec<Who> = sample.into_iter().collect();
        for look in 0..MOST_LOOKS {
            if rest.is_empty() {
                break;
            }
            let scope = Scope { customers: rest, brand: self.options.brand.clone(), ..Scope::all(config) };
            let (looked_at, found) = self.look(scope, look == 0, &mut report).await?;
            rest = Vec::new();
            let same = |(place, difference): &(&(&'static str, Key), &RowDifference)| before.get(*place) == Some(*difference);
            let (standing, moving): (Vec<_>, Vec<_>) = found.iter().partition(same);
            stands.extend(standing.into_iter().map(|(place, difference)| (place.clone(), difference.clone())));
            let still: BTreeSet<Who> = moving.into_iter().map(|((_, key), _)| who(key)).collect();
            if look == 0 {
                report.tables = looked_at;
            }
            before = found;
            if still.is_empty() {
                break;
            }
            rest = still.into_iter().collect();
            if !self.everything_of_now_is_in(config, until).await? {
                break;
            }
        }
        let standing: BTreeSet<Who> = stands.keys().map(|(_, key)| who(key)).collect();
        let unsettled = rest.iter().filter(|who| !standing.contains(*who)).count();
        self.wrong = standing;
        for table in &mut report.tables {
            let of_table = stands.iter().filter(|((name, _), _)| *name == table.table).map(|(_, difference)| difference.clone());
            let all: Vec<RowDifference> = of_table.collect();
            table.differences = all.len() as u64;
            table.listed = all.into_iter().take(self.options.listed_differences).collect();
        }
        Ok(Round { report, customers, unsettled })
    }

    /// Customers with rows, by a hash of their ids and the seed.
    async fn pick(&self, seed: u64) -> Result<Vec<Who>, AuditError> {
        let brand = self.options.brand.as_ref().map_or_else(String::new, |brand| format!("AND t.brand = {}", literal(brand)));
        let of = |table: &str, condition: &str| {
            format!("SELECT toString(t.brand) AS brand, customer_id FROM {table} AS t WHERE {condition} {brand}")
        };
        let query = format!(
            "SELECT brand, customer_id FROM ({} UNION ALL {}) GROUP BY brand, customer_id ORDER BY sipHash64(brand, customer_id, {seed}) LIMIT {}",
            of("customers", "first_event_time > toDateTime64(0, 3, 'UTC')"),
            of("customer_days", "1"),
            self.size
        );
        Ok(self.admin.rows(&query).await?)
    }

    /// One look at some customers: the tables, and every difference in them.
    async fn look(&self, mut scope: Scope, is_first: bool, report: &mut Report) -> Result<(Vec<TableReport>, Found), AuditError> {
        let conflicts = find_conflicts(&self.admin, &scope).await?;
        scope.conflicts = Conflicts::of(&conflicts);
        if is_first {
            report.left_out_customers = scope.conflicts.customers();
            report.conflicts = conflicts;
        }
        let (mut tables, mut found) = (Vec::new(), Found::new());
        for table in tables::OF_ONE_CUSTOMER {
            let mut compared = compare::compare(&self.admin, table, &scope, usize::MAX >> 1).await?;
            for difference in std::mem::take(&mut compared.listed) {
                found.insert((table.name, difference.key().clone()), difference);
            }
            tables.push(compared);
        }
        Ok((tables, found))
    }

    /// Waits until every record that the input logs have now is in a checkpoint of its owner; false when that takes too long.
    async fn everything_of_now_is_in(&self, config: &Config, until: Instant) -> Result<bool, AuditError> {
        let logs = Logs::ask(config).map_err(Box::new)?;
        let ends = logs.ends(config).map_err(Box::new)?;
        let mut sent = None;
        loop {
            match Snapshot::read_positions(&self.admin, logs.tasks).await {
                Ok(snapshot) => {
                    if sent.is_none() && snapshot.has_reached(&ends) {
                        sent = Some(snapshot.sent());
                    }
                    if sent.as_ref().is_some_and(|sent| snapshot.has_received(sent)) {
                        return Ok(true);
                    }
                }
                // A takeover may be under way.
                Err(LogAuditError::NoCheckpoint { .. }) => {}
                Err(error) => return Err(Box::new(error).into()),
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn who(key: &Key) -> Who {
    let column = |name: &str| key.iter().find(|(column, _)| column == name).map(|(_, value)| value.clone()).unwrap_or_default();
    (column("brand"), column("customer_id"))
}

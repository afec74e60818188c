//! Rows of a state on their way into memory: by one thread, or by two that have half of the state each.
//!
//! Owns how many are taken at once, and the second thread, which lives no longer than a call. Promises the same state whoever took the rows. Never asks for any.

use std::sync::mpsc;

use smallvec::SmallVec;

use super::io::Tally;
use crate::engine::{FORESEEN, GraphRestored, Owner, is_pack};
use crate::task::{CustomersHalf, Restore, StoredRow, StoredRows, TaskError};

/// State keys put into memory between two polls of the consumer, of each half.
const KEYS_PER_PIECE: usize = 20_000;

/// So many bytes of rows are worth a second thread.
const LEAST_SHARED_BYTES: usize = 256 << 10;

/// The second thread hears of so many groups of rows at once: a pack is one, or a few rows of single keys.
const GROUPS_A_MESSAGE: usize = 16;

/// Why rows did not get into memory.
#[derive(Debug)]
pub enum NotTaken {
    /// A row ends before its end.
    CutShort,
    /// The task refuses it.
    Task(TaskError),
}

impl From<TaskError> for NotTaken {
    fn from(error: TaskError) -> Self {
        NotTaken::Task(error)
    }
}

/// Takes some keys of each piece, in the order of the pieces; what is left of them stays.
///
/// # Errors
/// [`NotTaken`]: the state is of no further use.
pub fn take_alone(restore: &mut Restore, pieces: &mut [StoredRows<'_>], tally: &mut Tally) -> Result<(), NotTaken> {
    pieces.iter_mut().try_for_each(|rows| take_groups(rows, tally, |rows| Ok(Some(restore.rows(rows)?))))
}

/// Visits the rows of some keys, until `take` no longer says how many keys it took.
fn take_groups(
    rows: &mut StoredRows<'_>,
    tally: &mut Tally,
    mut take: impl FnMut(&[StoredRow<'_>]) -> Result<Option<usize>, NotTaken>,
) -> Result<(), NotTaken> {
    let mut keys = 0;
    while keys < KEYS_PER_PIECE && rows.unread() > 0 {
        let next = next_rows(rows);
        if next.is_empty() {
            return Err(NotTaken::CutShort);
        }
        let Some(taken) = take(&next)? else { break };
        keys += taken;
        next.iter().for_each(|row| tally.add(row.kind, row.sequence));
    }
    Ok(())
}

/// Whose the rows of some groups are.
#[derive(Default)]
struct Owners {
    /// Number of the piece among those that are taken.
    piece: usize,
    groups: usize,
    owners: Vec<Owner>,
}

/// The same by two threads, where it is worth it and all that was taken is in memory: the other one has the graph, goes behind, and ends with this call.
///
/// # Errors
/// As [`take_alone`].
pub fn take_shared(restore: &mut Restore, pieces: &mut [StoredRows<'_>], tally: &mut Tally) -> Result<(), NotTaken> {
    let bytes: usize = pieces.iter().map(StoredRows::unread).sum();
    if bytes < LEAST_SHARED_BYTES || restore.has_cold() {
        return take_alone(restore, pieces, tally);
    }
    // No more than the owners of the keys that one call takes.
    let (sender, receiver) = mpsc::channel::<Owners>();
    let mut behind = pieces.to_vec();
    let (mut customers, mut graph) = restore.halves();
    let graph = std::thread::scope(|scope| {
        let follow = move || -> Result<GraphRestored, TaskError> {
            for Owners { piece, groups, owners } in receiver {
                let Some(rows) = behind.get_mut(piece) else { continue };
                let mut owners = owners.into_iter();
                for _ in 0..groups {
                    graph.take(&next_rows(rows), &mut owners)?;
                }
            }
            Ok(graph.finish())
        };
        let Ok(graph) = std::thread::Builder::new().name("restore".to_owned()).spawn_scoped(scope, follow) else { return Ok(None) };
        let taken = send_owners(&mut customers, pieces, tally, &sender);
        drop(sender);
        let graph = graph.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and(graph.map(Some).map_err(NotTaken::Task))
    })?;
    match graph {
        Some(graph) => restore.restored(graph),
        // No thread was to be had, and nothing was taken.
        None => take_alone(restore, pieces, tally)?,
    }
    Ok(())
}

/// The first half takes rows, and says whose they are.
fn send_owners(
    customers: &mut CustomersHalf<'_>,
    pieces: &mut [StoredRows<'_>],
    tally: &mut Tally,
    sender: &mpsc::Sender<Owners>,
) -> Result<(), NotTaken> {
    for (piece, rows) in pieces.iter_mut().enumerate() {
        let mut next = Owners { piece, ..Owners::default() };
        let taken = take_groups(rows, tally, |rows| {
            let keys = customers.take(rows, &mut next.owners)?;
            next.groups += 1;
            // Nobody listens any more where the other half was refused.
            let goes_on =
                next.groups < GROUPS_A_MESSAGE || sender.send(std::mem::replace(&mut next, Owners { piece, ..Owners::default() })).is_ok();
            Ok(goes_on.then_some(keys))
        });
        _ = sender.send(next);
        taken?;
    }
    Ok(())
}

/// Some rows, for which is read ahead in memory together: a pack is many by itself. None if the first is cut short.
fn next_rows<'a>(rows: &mut StoredRows<'a>) -> SmallVec<[StoredRow<'a>; FORESEEN]> {
    let mut next: SmallVec<[StoredRow<'a>; FORESEEN]> = SmallVec::new();
    while next.len() < FORESEEN
        && next.last().is_none_or(|last| !is_pack(last.kind))
        && let Some(row) = rows.read()
    {
        next.push(row);
    }
    next
}

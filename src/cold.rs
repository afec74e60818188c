//! Where cold state is kept: a file of each task on the local disk, without a name, gone with the task.
//!
//! Owns the files and the limit on what is in them. Promises nothing about durability: what is in here is in `task_state` too. Never
//! knows what a group is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase, StorageBackend, Table, TableDefinition};

use crate::engine::{ColdGroup, Evicted};
use crate::model::TaskName;
use crate::task::{ColdStore, ColdStoreError, ColdStores};

const GROUPS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("groups");

/// Pages that a task's file keeps in memory, bytes.
const CACHE_BYTES: usize = 1 << 20;

/// Groups that one transaction adds or removes.
const GROUPS_A_PIECE: usize = 512;

/// All cold state of a process.
#[derive(Clone, Debug)]
pub struct ColdFiles {
    dir: PathBuf,
    bytes: Arc<AtomicU64>,
    most_bytes: u64,
}

impl ColdFiles {
    /// Files in `dir`, with `most_bytes` of groups in all of them together.
    pub fn new(dir: PathBuf, most_bytes: u64) -> Self {
        ColdFiles { dir, bytes: Arc::default(), most_bytes }
    }
}

impl ColdStores for ColdFiles {
    fn open(&self, task: &TaskName) -> Box<dyn ColdStore> {
        Box::new(ColdFile { task: task.clone(), files: self.clone(), database: None, taken: Vec::new(), bytes: 0 })
    }
}

/// Cold state of one task. Its file is made when the first group leaves memory.
#[derive(Debug)]
struct ColdFile {
    task: TaskName,
    files: ColdFiles,
    database: Option<Database>,
    /// Groups that are back in memory: removed together with the next ones that come.
    taken: Vec<u64>,
    /// Of the groups that are not taken.
    bytes: u64,
}

impl ColdStore for ColdFile {
    fn put(&mut self, groups: &[Evicted]) -> Result<(), ColdStoreError> {
        let bytes: u64 = groups.iter().map(|group| group.rows.len() as u64).sum();
        let all = self.files.bytes.load(Ordering::Relaxed);
        if all + bytes > self.files.most_bytes {
            return Err(ColdStoreError(format!("{all} bytes are on the disk, {bytes} more are too many for `limits.cold_bytes`")));
        }
        if let Err(error) = self.write(groups) {
            // Those that are there already go with the next ones that come.
            self.taken.extend(groups.iter().map(|group| group.group.number));
            return Err(self.failed(&error));
        }
        self.bytes += bytes;
        self.files.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn take(&mut self, group: ColdGroup) -> Result<Vec<u8>, ColdStoreError> {
        let rows = self.read(group.number).map_err(|error| self.failed(&error))?;
        let bytes = rows.len() as u64;
        self.taken.push(group.number);
        self.bytes -= bytes;
        self.files.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Ok(rows)
    }
}

impl ColdFile {
    fn failed(&self, error: &redb::Error) -> ColdStoreError {
        ColdStoreError(format!("the file of task {} in {}: {error}", self.task, self.files.dir.display()))
    }

    /// Removes what was taken and adds groups, a piece at a time: a transaction keeps every page that it changes in memory.
    fn write(&mut self, groups: &[Evicted]) -> Result<(), redb::Error> {
        let database = match &mut self.database {
            Some(database) => database,
            closed => closed.insert(open(&self.files.dir)?),
        };
        self.taken.sort_unstable();
        while !self.taken.is_empty() {
            let rest = self.taken.len().saturating_sub(GROUPS_A_PIECE);
            transact(database, |table| self.taken.iter().skip(rest).try_for_each(|number| table.remove(number).map(drop)))?;
            self.taken.truncate(rest);
        }
        for piece in groups.chunks(GROUPS_A_PIECE) {
            transact(database, |table| {
                piece.iter().try_for_each(|evicted| table.insert(evicted.group.number, evicted.rows.as_slice()).map(drop))
            })?;
        }
        Ok(())
    }

    fn read(&self, number: u64) -> Result<Vec<u8>, redb::Error> {
        let missing = || redb::Error::Io(io::Error::new(io::ErrorKind::NotFound, format!("no group {number}")));
        let table = self.database.as_ref().ok_or_else(missing)?.begin_read()?.open_table(GROUPS)?;
        let rows = table.get(number)?.ok_or_else(missing)?;
        Ok(rows.value().to_vec())
    }
}

/// One transaction.
fn transact(
    database: &Database,
    change: impl FnOnce(&mut Table<'_, u64, &'static [u8]>) -> Result<(), redb::StorageError>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // Frees the pages of what was taken; nothing is synced.
    transaction.set_durability(Durability::Immediate)?;
    change(&mut transaction.open_table(GROUPS)?)?;
    transaction.commit()?;
    Ok(())
}

impl Drop for ColdFile {
    fn drop(&mut self) {
        self.files.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn open(dir: &std::path::Path) -> Result<Database, redb::Error> {
    let file = tempfile::tempfile_in(dir)?;
    let backend = Unsynced(FileBackend::new(file)?);
    Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
}

/// A file that need not outlive the process.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rows: &[u8]) -> Vec<Evicted> {
        vec![Evicted { group: ColdGroup::default(), rows: rows.to_vec() }]
    }

    #[test]
    fn groups_come_back_and_count_while_they_are_away() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = ColdFiles::new(dir.path().to_owned(), 10);
        let mut store = files.open(&"0".into());
        store.put(&group(b"seven..")).expect("room");
        assert!(store.put(&group(b"four")).expect_err("no room").to_string().contains("limits.cold_bytes"));
        assert_eq!(store.take(ColdGroup::default()), Ok(b"seven..".to_vec()));
        store.put(&group(b"four")).expect("room again");
        assert_eq!(store.take(ColdGroup::default()), Ok(b"four".to_vec()));
        store.put(&group(b"ten bytes.")).expect("room again");
        drop(store);
        assert_eq!(files.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0, "files without a name");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_its_name() {
        let files = ColdFiles::new("/nowhere/at/all".into(), 10);
        let error = files.open(&"3".into()).put(&group(b"x")).expect_err("no folder").to_string();
        assert!(error.contains("task 3") && error.contains("/nowhere/at/all"), "{error}");
    }
}

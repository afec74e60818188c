//! Cold state in the simulator: kept in a map that now and then has no room.

use std::collections::BTreeMap;

use onecode::engine::{ColdGroup, Evicted};
use onecode::model::TaskName;
use onecode::task::{ColdStore, ColdStoreError, ColdStores};

#[derive(Debug)]
pub struct ColdMemories;

#[derive(Debug, Default)]
struct ColdMemory {
    groups: BTreeMap<u64, Vec<u8>>,
    puts: u32,
}

/// Of so many attempts to put state there, one finds no room.
const REFUSES_EVERY: u32 = 5;

impl ColdStores for ColdMemories {
    fn open(&self, _task: &TaskName) -> Box<dyn ColdStore> {
        Box::<ColdMemory>::default()
    }
}

impl ColdStore for ColdMemory {
    fn put(&mut self, groups: &[Evicted]) -> Result<(), ColdStoreError> {
        self.puts += 1;
        if self.puts.is_multiple_of(REFUSES_EVERY) {
            return Err(ColdStoreError("no room".to_owned()));
        }
        self.groups.extend(groups.iter().map(|evicted| (evicted.group.number, evicted.rows.clone())));
        Ok(())
    }

    fn take(&mut self, group: ColdGroup) -> Result<Vec<u8>, ColdStoreError> {
        self.groups
            .remove(&group.number)
            .ok_or_else(|| ColdStoreError(format!("group {} was never put here, or taken before", group.number)))
    }
}

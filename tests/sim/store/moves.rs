//! A move of the state to another number of tasks, as `onecode rescale` does it.

use std::collections::BTreeMap;

use onecode::model::TaskName;
use onecode::rescale::{Source, Step};
use onecode::rows::{RowBuffer, Table};
use onecode::task::{KIND_MARK, KIND_POSITIONS, Positions};

use super::{Store, state_rows, stored};
use crate::oracle::Value;
use crate::row_reader::{RawRow, decoded, raw_rows};

impl Store {
    /// The largest generation of any task.
    pub fn newest_generation(&self) -> u64 {
        let stored = self.state.iter().map(|((_, generation), rows)| stored(*generation, rows, 0));
        stored.map(|stored| stored.owner).max().unwrap_or_default()
    }

    /// The newest complete generation of every task that was written for so many tasks.
    pub fn sources(&self, tasks: u32) -> Vec<Source> {
        let mut sources: BTreeMap<TaskName, Source> = BTreeMap::new();
        let mut complete: Vec<_> = self.state.iter().filter(|(_, rows)| rows.contains_key(&(KIND_MARK, Vec::new()))).collect();
        complete.sort_by_key(|((_, generation), rows)| stored(*generation, rows, 0).owner);
        for ((task, generation), rows) in complete {
            let Some(row) = rows.get(&(KIND_POSITIONS, Vec::new())) else { continue };
            let positions = Positions::decode(&row.payload).expect("a positions row");
            if positions.tasks == tasks {
                sources.insert(task.clone(), Source { task: task.clone(), generation: *generation, positions });
            }
        }
        sources.into_values().collect()
    }

    /// A source's live rows but positions and mark.
    pub fn rows_to_move(&self, source: &Source) -> Vec<u8> {
        let mut buffer = RowBuffer::default();
        let rows = self.state.get(&(source.task.clone(), source.generation)).into_iter().flatten();
        for ((kind, key), value) in rows.filter(|((kind, _), value)| ![KIND_POSITIONS, KIND_MARK].contains(kind) && !value.is_deleted) {
            buffer.push(|out| {
                out.u8(*kind).blob(key).u64(value.sequence).blob(&value.payload);
            });
        }
        buffer.row_binary()
    }

    /// Carries out one step of a move.
    pub fn carry_out_step(&mut self, step: Step) {
        match step {
            Step::State(rows) => state_rows(&rows).into_iter().for_each(|row| self.land_state(row)),
            Step::Serve(table, rows) => raw_rows(table, &rows).into_iter().for_each(|row| self.land_row(table, row)),
            Step::Empty { .. } if self.defects.keeps_served_cells => {}
            Step::Empty { task, since_s, version } => {
                let cells = self.rows.iter().filter(|((table, key), (_, values))| is_cell_since(*table, key, values, &task, since_s));
                let emptied: Vec<(Table, RawRow)> = cells
                    .map(|((table, key), (_, values))| {
                        (*table, RawRow { key: key.clone(), values: vec![0; values.len()], version: version.0 })
                    })
                    .collect();
                emptied.into_iter().for_each(|(table, row)| self.land_row(table, row));
            }
        }
    }
}

/// Whether a row is a cell of a task from a moment on: of a minute, or of a day that has it.
fn is_cell_since(table: Table, key: &[u8], values: &[u8], task: &str, since_s: i64) -> bool {
    let since = match table {
        Table::ActivityMinute => since_s,
        Table::ActivityDay | Table::ActiveCustomersDay => since_s / 86_400,
        _ => return false,
    };
    let (key, _) = decoded(table, key, values);
    let is_since = matches!(key.get(1), Some(Value::Number(bucket)) if *bucket >= i128::from(since));
    is_since && key.last() == Some(&Value::Text(task.to_owned()))
}

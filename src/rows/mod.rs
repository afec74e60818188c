//! Rows as bytes: the columns of ClickHouse's Native format, encoded once.
//!
//! Owns the list of tables that the pipeline writes, with their columns in the order of the encoding, and the primitives of
//! the format. Promises that the same values give the same rows; how wide their numbers are sent depends on those before them. Never talks to a
//! server.

pub mod archive;
mod buffer;
mod column;
mod number;
mod pages;
pub mod serving;
mod table;

pub use archive::ArchiveRows;
pub use buffer::{RowBuffer, RowWriter};
pub use column::Column;
pub use serving::ServingRows;
pub use table::Table;

//! What the benchmarks with real servers share: the servers, topics full of generated events, and what a process has used.

#![allow(dead_code, reason = "every benchmark uses a part of it")]

pub mod events;
pub mod load;
pub mod onecode;
pub mod servers;
pub mod usage;

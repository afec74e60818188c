//! `onecode rescale` as an operator does it: everything stops, the tasks read what others have sent them, the state moves, and everything
//! starts again with another exchange. What is decided and written is decided by the command's own code; carried out is it here.

use std::sync::Arc;

use onecode::rescale::{Moving, Plan, Source, Wanted, plan};
use onecode::task::LogRole;

use super::Run;
use crate::sim::world::{is_exchange, trace};

/// Rounds within which tasks read what others have sent them.
const SETTLE_ROUNDS: usize = 2_000;
const SETTLE_STEP_MS: i64 = 100;

impl Run {
    /// Another number of tasks. What was on its way before the stop may arrive in between or after it.
    pub(super) fn rescale(&mut self, tasks: u32) -> Result<(), String> {
        (0..self.plan.workers).for_each(|slot| self.crash(slot));
        self.world.kafka.group.lose_members();
        let has_faults = std::mem::replace(&mut self.world.has_faults, false);
        let comes_late = has_faults && self.world.random.chance(500);
        let late = if comes_late { std::mem::take(&mut self.world.kafka.orphans) } else { Vec::new() };
        self.end_outages();
        self.read_the_exchange()?;
        // The command waits until ClickHouse carries out no insert any more.
        self.world.store.land_all(&mut self.world.random);
        let old_exchange = self.world.exchange.clone();
        let new_exchange: Arc<str> = Arc::from(format!("exchange.{tasks}"));
        let sources = self.world.store.sources(self.plan.tasks);
        let plan = self.decide(&sources, &new_exchange, tasks)?;
        trace!(self.world, "the state moves from {} tasks to {tasks}", self.plan.tasks);
        let interruptions = if has_faults { self.world.random.below(3) } else { 0 };
        for _ in 0..interruptions {
            let steps = self.world.random.below(40);
            self.move_state(&sources, &plan, steps)?;
        }
        self.move_state(&sources, &plan, usize::MAX)?;
        for source in sources {
            if self.world.random.chance(700) {
                self.world.store.state.remove(&(source.task, source.generation));
            }
        }
        self.world.kafka.orphans.extend(late);
        self.world.kafka.subscribed.remove(&old_exchange);
        self.world.kafka.add_topic(&new_exchange, tasks);
        self.plan.change_tasks(&new_exchange, tasks);
        self.world.exchange = new_exchange;
        self.plan.partitions = self.world.kafka.partitions.clone();
        self.world.has_faults = has_faults;
        self.restart_at_ms.fill(0);
        self.stats.rescaled += 1;
        self.has_rescaled = true;
        Ok(())
    }

    /// `onecode run --settle`: workers read the exchange alone, and drain when they have.
    fn read_the_exchange(&mut self) -> Result<(), String> {
        let settings = self.plan.settings.clone();
        let subscribed = self.world.kafka.subscribed.clone();
        self.plan.settings.topics.retain(|topic| topic.role == LogRole::Exchange);
        self.world.kafka.subscribed.retain(|topic, _| is_exchange(topic));
        self.restart_at_ms.fill(0);
        for _ in 0..SETTLE_ROUNDS {
            self.pass(SETTLE_STEP_MS);
            for slot in 0..self.plan.workers {
                self.settle_worker(slot)?;
            }
            (0..20).for_each(|_| self.step_store());
            // A gap stays open: its source is not read now.
            if self.unsettled_but_for(usize::MAX).is_none() {
                break;
            }
        }
        if let Some(left) = self.unsettled_but_for(usize::MAX) {
            return Err(format!("the exchange was not read after {SETTLE_ROUNDS} rounds: {left}"));
        }
        (0..self.plan.workers).for_each(|slot| self.crash(slot));
        self.world.kafka.group.lose_members();
        self.plan.settings = settings;
        self.world.kafka.subscribed = subscribed;
        Ok(())
    }

    fn decide(&mut self, sources: &[Source], exchange: &Arc<str>, tasks: u32) -> Result<Plan, String> {
        let inputs = self.plan.settings.topics.iter().filter(|topic| topic.role != LogRole::Exchange);
        let wanted = Wanted {
            tasks,
            old_tasks: self.plan.tasks,
            old_exchange: self.world.exchange.to_string(),
            exchange: (exchange.to_string(), String::new(), vec![0; tasks as usize]),
            inputs: inputs.map(|topic| (topic.name.clone(), topic.partitions)).collect(),
        };
        plan(sources, &wanted, self.world.wall_ms()).map_err(|error| error.to_string())
    }

    /// Carries out so many steps of the move; it ends with the last.
    fn move_state(&mut self, sources: &[Source], plan: &Plan, mut most: usize) -> Result<(), String> {
        let mut moving = Moving::new(plan, self.newest_generation() + 1);
        let mut steps = Vec::new();
        for source in sources {
            let rows = self.world.store.rows_to_move(source);
            steps.extend(moving.take(source, &rows).map_err(|error| error.to_string())?);
        }
        steps.extend(moving.finish().0);
        for step in steps {
            if most == 0 {
                trace!(self.world, "the move is interrupted");
                return Ok(());
            }
            most -= 1;
            self.world.store.carry_out_step(step);
        }
        Ok(())
    }

    /// The largest generation of any task.
    fn newest_generation(&self) -> u64 {
        self.world.store.newest_generation()
    }

    fn end_outages(&mut self) {
        self.kafka_down_until_ms = 0;
        self.store_down_until_ms = 0;
        self.stalled = None;
        self.pass(0);
    }
}

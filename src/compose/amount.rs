//! Requests and room as numbers in a row, so that fitting is comparing.

use crate::domain::node::Resources;
use crate::domain::quantity::ByteSize;

/// CPU (thousandths), memory, ephemeral storage, pods, then the spec's extended resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount(Vec<u64>);

/// Place of the CPU.
pub const CPU: usize = 0;
/// Place of the memory.
pub const MEMORY: usize = 1;
const EPHEMERAL: usize = 2;
const PODS: usize = 3;

impl Amount {
    /// From resources; `extended` are the names that are known, in their order.
    #[must_use]
    pub fn of(resources: &Resources, extended: &[String]) -> Self {
        let mut row = vec![
            resources.cpu_milli,
            resources.memory.0,
            resources.ephemeral.0,
            resources.pods,
        ];
        row.extend(
            extended
                .iter()
                .map(|name| resources.extended.get(name).copied().unwrap_or(0)),
        );
        Self(row)
    }

    /// Back into resources.
    #[must_use]
    pub fn resources(&self, extended: &[String]) -> Resources {
        let named = extended.iter().zip(&self.0[PODS + 1..]);
        Resources {
            cpu_milli: self.0[CPU],
            memory: ByteSize(self.0[MEMORY]),
            ephemeral: ByteSize(self.0[EPHEMERAL]),
            pods: self.0[PODS],
            extended: named
                .filter(|(_, n)| **n > 0)
                .map(|(name, n)| (name.clone(), *n))
                .collect(),
        }
    }

    /// One of its numbers.
    #[must_use]
    pub fn get(&self, place: usize) -> u64 {
        self.0[place]
    }

    /// Whether it can be taken out of `room`.
    #[must_use]
    pub fn fits(&self, room: &Self) -> bool {
        self.0.iter().zip(&room.0).all(|(ask, room)| ask <= room)
    }

    /// How many times it can be taken out of `room`.
    #[must_use]
    pub fn times(&self, room: &Self) -> u32 {
        let each = self.0.iter().zip(&room.0).filter(|(ask, _)| **ask > 0);
        each.map(|(ask, room)| room / ask)
            .min()
            .map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    /// Takes `ask` out, so many times; never below zero.
    pub fn take(&mut self, ask: &Self, times: u32) {
        for (room, ask) in self.0.iter_mut().zip(&ask.0) {
            *room = room.saturating_sub(ask.saturating_mul(u64::from(times)));
        }
    }

    /// Gives `ask` back.
    pub fn give(&mut self, ask: &Self) {
        for (room, ask) in self.0.iter_mut().zip(&ask.0) {
            *room = room.saturating_add(*ask);
        }
    }

    /// The largest share of `room` that it takes, CPU and memory only, as autoscalers count.
    #[must_use]
    pub fn share(&self, room: &Self) -> f64 {
        let share = |place: usize| self.0[place] as f64 / (room.0[place] as f64).max(1.0);
        share(CPU).max(share(MEMORY))
    }
}

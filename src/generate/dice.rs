//! The one source of chance: a ChaCha stream, and draws from it that no library version can change.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Seeded chance.
#[derive(Clone, Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        for (chunk, part) in key.chunks_exact_mut(8).zip(0_u64..) {
            chunk.copy_from_slice(&mixed(seed ^ mixed(part)).to_le_bytes());
        }
        Dice(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// As [`Dice::below`], but low numbers are drawn more often: number n about as often as 1/√n.
    pub fn popular_below(&mut self, bound: u64) -> u64 {
        let uniform = u128::from(self.below(bound));
        (uniform * uniform / u128::from(bound.max(1))) as u64
    }

    /// True this often in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }

    /// One of these.
    pub fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// SplitMix64's finalizer: a bijection that scatters neighbours, for ids and for properties that need no memory.
pub(super) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

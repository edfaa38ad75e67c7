//! In which order, how many at a time and when workloads roll, and when one of
//! them has failed. Pure.

mod health;
mod turn;
mod window;

pub use health::{Health, Patience, health, was_ill};
pub use turn::{Bounds, Named, Place, Standing, Turns, turns};
pub use window::{Opening, WindowError, opening};

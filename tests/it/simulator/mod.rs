//! The oracles of the simulator, each of which must be able to fire.

mod made_up;

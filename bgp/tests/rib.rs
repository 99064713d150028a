//! The Rib as its peers see it: pure, with a clock moved by hand.

#[path = "rib/oracle.rs"]
mod oracle;
#[path = "rib/world.rs"]
mod world;

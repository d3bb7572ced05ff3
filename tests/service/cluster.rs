//! A Redis Cluster of six real servers: primaries that fail, slots that move, nodes that are cut off, clocks that
//! differ. The stream contains every decision of an undisturbed run once; decisions that a failover has lost are
//! found and not sent again.

mod cells;
mod disturbed;
mod doors;
mod lost;
mod night;

//! A Redis Cluster of six real servers: primaries that fail, slots that move, nodes that are cut off, clocks that differ.
//! Every decision of an undisturbed run stands in the stream once, and what a failover has lost is found and not sent again.

mod disturbed;
mod doors;
mod lost;
mod night;

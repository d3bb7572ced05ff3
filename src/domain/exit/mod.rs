//! The rules of the exit: policy, valuation, guards, ladder, and the reasons to hold.

pub mod decide;
pub mod policy;

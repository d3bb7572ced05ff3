//! A second implementation of docs/spec/fold.md, *Fill*: from cumulative quantities and average prices to positions,
//! in fractions.
//!
//! Written from the text of the contract, one rule after the other, without a look at the engine.

use std::collections::{BTreeMap, BTreeSet};

use super::exact::{Exact, abs, exact, zero};

/// The report of a result on an order.
#[derive(Clone, Debug)]
pub struct OrderReport {
    pub order: u32,
    pub buys: bool,
    pub reduce_only: bool,
    pub cumulative: String,
    pub average: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Order {
    seen: BTreeSet<String>,
    /// Quantity of each part and its price.
    parts: Vec<(Exact, Option<Exact>)>,
}

impl Order {
    fn applied(&self) -> Exact {
        self.parts.iter().fold(zero(), |sum, (qty, _)| sum + qty)
    }

    /// Returns the cost of the parts with a price, and the quantity of those without one, among the first parts.
    fn known(&self, parts: usize) -> (Exact, Exact) {
        self.parts[..parts].iter().fold((zero(), zero()), |(cost, unknown), (qty, price)| match price {
            Some(price) => (cost + price * qty, unknown),
            None => (cost, unknown + qty),
        })
    }
}

/// The expected positions: signed quantities, each with its part of the order.
#[derive(Clone, Debug, Default)]
pub struct Model {
    orders: BTreeMap<u32, Order>,
    /// Positions, oldest first; the last one may be open.
    positions: Vec<Vec<(Exact, u32, usize)>>,
    pub repeated: u64,
    pub contradictory: u64,
    pub reduce_only_flat: u64,
    pub reduce_only_same_side: u64,
    pub reduce_only_excess: u64,
}

/// The sums of a position.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    pub qty: Exact,
    pub entry: Option<Exact>,
    pub realized: Option<Exact>,
    /// Sum of the amounts of which the realised pnl is a difference. [quote]
    pub turnover: Exact,
}

impl Model {
    pub fn apply(&mut self, report: &OrderReport) {
        let cumulative = exact(&report.cumulative);
        let average = report.average.as_deref().map(exact);
        let order = self.orders.entry(report.order).or_default();
        let applied = order.applied();
        let is_new = order.seen.insert(report.cumulative.clone());
        if !is_new || cumulative == applied {
            self.repeated += 1;
        } else if cumulative < applied {
            self.contradictory += 1;
        } else {
            let delta = &cumulative - &applied;
            let (cost, unknown) = order.known(order.parts.len());
            let price = match &average {
                Some(average) if order.parts.is_empty() => Some(average.clone()),
                Some(average) if unknown == zero() => {
                    Some((average * &cumulative - cost) / &delta).filter(|price| *price > zero())
                }
                _ => None,
            };
            order.parts.push((delta.clone(), price));
            let part = order.parts.len() - 1;
            let signed = if report.buys { delta } else { -delta };
            self.fill(signed, report.reduce_only, report.order, part);
        }
        if let Some(average) = average {
            self.supply(report.order, &cumulative, &average);
        }
    }

    /// Supplies the price of a part that has none, from an average price of the whole cumulative quantity.
    fn supply(&mut self, order: u32, cumulative: &Exact, average: &Exact) {
        let order = self.orders.entry(order).or_default();
        let mut end = zero();
        let ends = order.parts.iter().position(|(qty, _)| {
            end += qty;
            end == *cumulative
        });
        let Some(last) = ends else { return };
        let (cost, unknown) = order.known(last + 1);
        if unknown == zero() {
            return;
        }
        let price = (average * cumulative - cost) / unknown;
        if price > zero() {
            for (_, missing) in order.parts[..=last].iter_mut().filter(|(_, price)| price.is_none()) {
                *missing = Some(price.clone());
            }
        }
    }

    fn fill(&mut self, signed: Exact, reduce_only: bool, order: u32, part: usize) {
        let held = self.positions.last().map_or(zero(), |position| qty_of(position));
        if held == zero() {
            if reduce_only {
                self.reduce_only_flat += 1;
            } else {
                self.positions.push(vec![(signed, order, part)]);
            }
            return;
        }
        let Some(open) = self.positions.last_mut() else { return };
        if (held > zero()) == (signed > zero()) {
            if reduce_only {
                self.reduce_only_same_side += 1;
            } else {
                open.push((signed, order, part));
            }
        } else if abs(&signed) <= abs(&held) {
            open.push((signed, order, part));
        } else {
            open.push((-held.clone(), order, part));
            if reduce_only {
                self.reduce_only_excess += 1;
            } else {
                self.positions.push(vec![(signed + held, order, part)]);
            }
        }
    }

    /// Returns the sums of every position, oldest first.
    pub fn sums(&self) -> Vec<Sums> {
        self.positions.iter().map(|position| self.sums_of(position)).collect()
    }

    fn sums_of(&self, position: &[(Exact, u32, usize)]) -> Sums {
        let mut sums = Sums { qty: zero(), entry: None, realized: Some(zero()), turnover: zero() };
        for (signed, order, part) in position {
            let price = &self.orders[order].parts[*part].1;
            if let Some(price) = price {
                sums.turnover += price * abs(signed);
            }
            let qty = &sums.qty + signed;
            if sums.qty == zero() {
                sums.entry.clone_from(price);
            } else if (sums.qty > zero()) == (*signed > zero()) {
                sums.entry = match (&sums.entry, price) {
                    (Some(entry), Some(price)) => Some((entry * &sums.qty + price * signed) / &qty),
                    _ => None,
                };
            } else {
                sums.realized = match (&sums.realized, &sums.entry, price) {
                    (Some(realized), Some(entry), Some(price)) => Some(realized - signed * (price - entry)),
                    _ => None,
                };
            }
            sums.qty = qty;
        }
        sums
    }
}

fn qty_of(position: &[(Exact, u32, usize)]) -> Exact {
    position.iter().fold(zero(), |sum, (signed, ..)| sum + signed)
}

//! A second reading of docs/spec/fold.md, *Fill*: from cumulative quantities and average prices to positions, in fractions.
//!
//! Written from the contract's words, one rule after the other, without a look at how the engine keeps its books.

use std::collections::{BTreeMap, BTreeSet};

use super::exact::{Exact, abs, exact, zero};

/// What a result says of an order.
#[derive(Clone, Debug)]
pub struct Said {
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

    /// Cost of what has a price, and quantity of what has none, of the first parts.
    fn known(&self, parts: usize) -> (Exact, Exact) {
        self.parts[..parts].iter().fold((zero(), zero()), |(cost, unknown), (qty, price)| match price {
            Some(price) => (cost + price * qty, unknown),
            None => (cost, unknown + qty),
        })
    }
}

/// One instance: signed quantities, each with the part of the order that it is.
#[derive(Clone, Debug, Default)]
pub struct Model {
    orders: BTreeMap<u32, Order>,
    /// Instances, oldest first; the last one may be open.
    positions: Vec<Vec<(Exact, u32, usize)>>,
    pub repeated: u64,
    pub contradictory: u64,
    pub reduce_only_flat: u64,
    pub reduce_only_same_side: u64,
    pub reduce_only_excess: u64,
}

/// What an instance comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Comes {
    pub qty: Exact,
    pub entry: Option<Exact>,
    pub realized: Option<Exact>,
    /// What the realised pnl is a difference of.
    pub turnover: Exact,
}

impl Model {
    pub fn apply_outcome(&mut self, said: &Said) {
        let cumulative = exact(&said.cumulative);
        let average = said.average.as_deref().map(exact);
        let order = self.orders.entry(said.order).or_default();
        let applied = order.applied();
        let is_new = order.seen.insert(said.cumulative.clone());
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
            let signed = if said.buys { delta } else { -delta };
            self.fill(signed, said.reduce_only, said.order, part);
        }
        if let Some(average) = average {
            self.supply(said.order, &cumulative, &average);
        }
    }

    /// An average price for the whole cumulative, where a part had no price, supplies that part's.
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

    /// What every instance comes to, oldest first.
    pub fn come(&self) -> Vec<Comes> {
        self.positions.iter().map(|position| self.comes(position)).collect()
    }

    fn comes(&self, position: &[(Exact, u32, usize)]) -> Comes {
        let mut comes = Comes { qty: zero(), entry: None, realized: Some(zero()), turnover: zero() };
        for (signed, order, part) in position {
            let price = &self.orders[order].parts[*part].1;
            if let Some(price) = price {
                comes.turnover += price * abs(signed);
            }
            let qty = &comes.qty + signed;
            if comes.qty == zero() {
                comes.entry.clone_from(price);
            } else if (comes.qty > zero()) == (*signed > zero()) {
                comes.entry = match (&comes.entry, price) {
                    (Some(entry), Some(price)) => Some((entry * &comes.qty + price * signed) / &qty),
                    _ => None,
                };
            } else {
                comes.realized = match (&comes.realized, &comes.entry, price) {
                    (Some(realized), Some(entry), Some(price)) => Some(realized - signed * (price - entry)),
                    _ => None,
                };
            }
            comes.qty = qty;
        }
        comes
    }
}

fn qty_of(position: &[(Exact, u32, usize)]) -> Exact {
    position.iter().fold(zero(), |sum, (signed, ..)| sum + signed)
}

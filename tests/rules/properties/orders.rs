//! Positions from the results and trades of orders.

use std::collections::BTreeMap;

use super::cases;
use crate::support;
use crate::support::exact;
use crate::support::histories::{OBSERVATION, RESULT};
use crate::support::lab::Lab;
use crate::support::orders::{Model, OrderReport};
use harvester::codec::view;
use harvester::domain::book::counters::Count;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;

proptest! {
    #![proptest_config(cases(256))]

    /// Positions agree with cumulative quantities and average prices, by a second implementation of the contract.
    #[test]
    fn plain_orders_give_the_positions_of_the_contract(
        orders in prop::collection::vec((any::<bool>(), prop::bool::weighted(0.25)), 8),
        reports in prop::collection::vec((0usize..8, 1u32..40, prop::option::weighted(0.7, 40u32..60)), 1..60),
    ) {
        let config = support::config(None);
        let mut lab = Lab::new(&config);
        let mut model = Model::default();
        for (i, (order, cumulative, average)) in reports.into_iter().enumerate() {
            let (buys, reduce_only) = orders[order];
            let report = OrderReport {
                order: order as u32,
                buys,
                reduce_only,
                cumulative: format!("{}.{}", cumulative / 4, [0, 25, 5, 75][cumulative as usize % 4]),
                average: average.map(|average| format!("{}.3", average)),
            };
            model.apply(&report);
            let (id, order_id) = (format!("{}-0", 1_770_163_200_000 + 250 * i), format!("{}", 500 + order));
            let mut fields = vec![
                ("symbol", "SOLUSDT"),
                ("executed", "true"),
                ("order_status", "PARTIALLY_FILLED"),
                ("side", if buys { "BUY" } else { "SELL" }),
                ("reduceOnly", if reduce_only { "true" } else { "false" }),
                ("orderId", &order_id),
                ("executedQty", &report.cumulative),
            ];
            fields.extend(report.average.as_deref().map(|average| ("avgPrice", average)));
            lab.entry(RESULT, &id, &fields);
        }
        let symbol = lab.symbol("SOLUSDT").expect("the symbol was named");
        let sums = model.sums();
        prop_assert_eq!(symbol.positions().count(), sums.len());
        for (position, sums) in symbol.positions().zip(&sums) {
            let printed = json!(view::PositionView::of(&lab.engine, symbol, position));
            prop_assert_eq!(exact::of(position.totals.qty.get()), sums.qty.clone(), "{}", printed);
            let entry = printed["entry_price"]["value"].as_str();
            let realized = printed["realized_pnl"].as_str();
            prop_assert_eq!(entry.is_some(), sums.entry.is_some(), "{}", printed);
            prop_assert_eq!(realized.is_some(), sums.realized.is_some(), "{}", printed);
            if let (Some(entry), Some(wanted)) = (entry, &sums.entry) {
                prop_assert!(exact::agrees(entry, wanted), "entry {}: {}", wanted, printed);
            }
            if let (Some(realized), Some(wanted)) = (realized, &sums.realized) {
                let part = exact::whole(10).pow(-24);
                let agrees = exact::agrees_within(realized, wanted, &sums.turnover, &part);
                prop_assert!(agrees, "realised {}: {}", wanted, printed);
            }
        }
        let counters = &lab.engine.counters;
        for (count, wanted) in [
            (Count::FillsRepeated, model.repeated),
            (Count::FillsContradictory, model.contradictory),
            (Count::ReduceOnlyFlat, model.reduce_only_flat),
            (Count::ReduceOnlySameSide, model.reduce_only_same_side),
            (Count::ReduceOnlyExcess, model.reduce_only_excess),
        ] {
            prop_assert_eq!(counters.of(count), wanted, "{}", count.name());
        }
    }

    /// The applied quantity of an order is the larger of its results' cumulative and the sum of its distinct trades.
    #[test]
    fn results_and_trades_of_an_order_are_not_added_up(
        sides in prop::collection::vec(any::<bool>(), 4),
        reports in prop::collection::vec((0usize..4, any::<bool>(), 1u64..30, 0u64..12), 1..50),
    ) {
        let mut lab = Lab::new(&support::config(None));
        let mut results = [0u64; 4];
        let mut trades: [BTreeMap<u64, u64>; 4] = Default::default();
        for (i, (order, is_trade, qty, trade_id)) in reports.into_iter().enumerate() {
            let now_ms = 1_770_163_200_000 + 250 * i as u64;
            let (id, order_id) = (format!("{now_ms}-0"), (500 + order).to_string());
            let side = if sides[order] { "BUY" } else { "SELL" };
            if is_trade {
                // A trade belongs to one order.
                let trade_id = 100 * order as u64 + trade_id;
                trades[order].entry(trade_id).or_insert(qty);
                let payload = format!(
                    r#"{{"symbol":"SOLUSDT","orderId":{order_id},"id":{trade_id},"side":"{side}","qty":{qty},"price":"100","time":{now_ms}}}"#
                );
                lab.entry(OBSERVATION, &id, &[("event_type", "exchange.trade"), ("payload", &payload)]);
            } else {
                // A cumulative below an earlier one is contradictory, and changes nothing.
                results[order] = results[order].max(qty);
                let fields =
                    [("symbol", "SOLUSDT"), ("side", side), ("executedQty", &qty.to_string()), ("orderId", &order_id)];
                lab.entry(RESULT, &id, &fields);
            }
        }
        let applied = |order: usize| results[order].max(trades[order].values().sum()) as i64;
        let wanted: i64 = (0..4).map(|order| if sides[order] { applied(order) } else { -applied(order) }).sum();
        let held = lab.symbol("SOLUSDT").map_or(Decimal::ZERO, |symbol| symbol.qty().get());
        prop_assert_eq!(held, Decimal::from(wanted));
    }

    /// A trade counts once for its side, whatever order id its entries name.
    #[test]
    fn a_trade_counts_once_whatever_order_it_names(
        sides in prop::collection::vec(any::<bool>(), 4),
        reports in prop::collection::vec((0usize..4, 1i64..30, 0u64..12), 1..50),
    ) {
        let mut lab = Lab::new(&support::config(None));
        let mut trades: BTreeMap<(bool, u64), i64> = BTreeMap::new();
        let mut repeated = 0;
        for (i, (order, qty, trade_id)) in reports.into_iter().enumerate() {
            let now_ms = 1_770_163_200_000 + 250 * i as u64;
            let (buys, order_id) = (sides[order], 500 + order);
            repeated += u64::from(trades.contains_key(&(buys, trade_id)));
            trades.entry((buys, trade_id)).or_insert(qty);
            let side = if buys { "BUY" } else { "SELL" };
            let payload = format!(
                r#"{{"symbol":"SOLUSDT","orderId":{order_id},"id":{trade_id},"side":"{side}","qty":{qty},"price":"100","time":{now_ms}}}"#
            );
            let id = format!("{now_ms}-0");
            lab.entry(OBSERVATION, &id, &[("event_type", "exchange.trade"), ("payload", &payload)]);
        }
        let wanted: i64 = trades.iter().map(|((buys, _), qty)| if *buys { *qty } else { -qty }).sum();
        let symbol = lab.symbol("SOLUSDT").expect("the symbol was named");
        prop_assert_eq!(symbol.qty().get(), Decimal::from(wanted));
        prop_assert!(!symbol.hot.history_gap);
        prop_assert_eq!(lab.engine.counters.of(Count::FillsRepeated), repeated);
    }
}

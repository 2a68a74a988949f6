//! The arithmetic of the budget.

use proptest::prelude::*;

use super::*;
use crate::ops::telemetry::exposition::Exposition;

const LIMIT: usize = 1600;

fn budget() -> MemoryBudget {
    MemoryBudget::new(LIMIT, &Metrics::default())
}

fn address(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 0, 0, last]))
}

fn total(budget: &MemoryBudget) -> usize {
    MemoryUse::ALL.iter().map(|usage| budget.used(*usage)).sum()
}

#[test]
fn the_reserves_leave_room_and_no_share_exceeds_the_rest() {
    let reserves: usize = MemoryUse::ALL.iter().map(|usage| usage.parts().0).sum();
    for usage in MemoryUse::ALL {
        let (reserve, share) = usage.parts();
        assert!(reserve <= share && share - reserve + reserves <= PARTS, "{usage:?}");
    }
}

#[test]
fn a_use_gets_its_share_and_no_more() {
    let budget = budget();
    let _lists = budget.take(MemoryUse::lists, None, 200).expect("its share");
    assert_eq!(budget.take(MemoryUse::lists, None, 1).err(), Some(BudgetExhausted));
    assert!(budget.take(MemoryUse::replays, None, 400).is_ok());
}

#[test]
fn a_full_budget_keeps_the_reserve_of_every_other_use() {
    let budget = budget();
    let _full = [
        budget.take(MemoryUse::history, None, 800).expect("its share"),
        budget.take(MemoryUse::connections, None, 300).expect("the rest"),
    ];
    assert!(budget.take(MemoryUse::connections, None, 1).is_err(), "the reserves are not for it");
    for (usage, reserve) in [(MemoryUse::queues, 200), (MemoryUse::replays, 200)] {
        assert!(budget.take(usage, None, reserve).is_ok(), "{usage:?}");
    }
}

#[test]
fn an_address_gets_a_quarter_of_a_share_that_is_half_used() {
    let budget = budget();
    let _half = budget.take(MemoryUse::replays, address(1), 200).expect("half of the share");
    assert!(budget.take(MemoryUse::replays, address(1), 1).is_err());
    let other = budget.take(MemoryUse::replays, address(2), 100).expect("a quarter");
    assert!(budget.take(MemoryUse::replays, address(2), 1).is_err());
    assert!(budget.take(MemoryUse::replays, None, 100).is_ok(), "an unknown address has no limit");
    drop(other);
    assert!(budget.take(MemoryUse::replays, address(2), 100).is_ok());
}

#[test]
fn rounds_are_counted_beyond_the_share_and_not_refused() {
    let budget = budget();
    let counted = budget.count(MemoryUse::queues, 5000);
    assert!(budget.is_exhausted(MemoryUse::queues));
    assert!(budget.take(MemoryUse::lists, None, 1).is_err(), "nothing is left for new work");
    drop(counted);
    assert!(!budget.is_exhausted(MemoryUse::queues) && total(&budget) == 0);
}

#[test]
fn connections_without_a_stream_take_no_more_than_half_of_their_share_from_new_work() {
    let budget = MemoryBudget::new(64 << 20, &Metrics::default());
    let share = budget.share(MemoryUse::connections);
    let pending: Vec<_> = (0..1024).map(|_| (budget.count_keys(), budget.count_http())).collect();
    assert!(budget.used(MemoryUse::connections) > 2 * share, "all of them are counted");
    let half = budget.take(MemoryUse::connections, None, share / 2).expect("the other half");
    assert!(budget.take(MemoryUse::connections, None, 1).is_err());
    let [replays, lists] =
        [MemoryUse::replays, MemoryUse::lists].map(|usage| budget.0.reserve(usage));
    assert!(budget.take(MemoryUse::replays, None, replays).is_ok());
    assert!(budget.take(MemoryUse::lists, None, lists).is_ok());
    drop((pending, half));
    assert_eq!(total(&budget), 0);
}

#[test]
fn counted_bytes_that_move_are_counted_for_their_new_use_alone() {
    let budget = budget();
    let counted = budget.count(MemoryUse::queues, 100);
    counted.move_to(MemoryUse::history);
    assert_eq!((budget.used(MemoryUse::queues), budget.used(MemoryUse::history)), (0, 100));
    drop(counted);
    assert_eq!(total(&budget), 0);
}

#[test]
fn a_use_must_shrink_above_its_share_or_when_the_limit_is_reached() {
    let budget = budget();
    let history = budget.count(MemoryUse::history, 801);
    assert!(budget.must_shrink(MemoryUse::history), "above its share");
    drop(history);
    let _history = budget.count(MemoryUse::history, 700);
    assert!(!budget.must_shrink(MemoryUse::history));
    let _queues = budget.count(MemoryUse::queues, 1000);
    assert!(budget.must_shrink(MemoryUse::history), "the limit is reached");
}

#[test]
fn the_gauges_show_limit_and_use() {
    let metrics = Metrics::default();
    let budget = MemoryBudget::new(LIMIT, &metrics);
    let _charge = budget.count(MemoryUse::history, 7);
    let text = metrics.encode(Exposition::OpenMetrics).expect("text");
    assert!(text.contains("datastream_memory_limit_bytes 1600\n"), "{text}");
    assert!(text.contains("datastream_memory_used_bytes{kind=\"history\"} 7\n"), "{text}");
}

proptest! {
    #[test]
    fn no_sequence_of_requests_exceeds_the_limit_and_all_is_given_back(
        steps in prop::collection::vec((0..USES, 0_u8..4, 0_usize..900, 0_u8..4), 0..60)
    ) {
        let (budget, mut charges) = (budget(), Vec::new());
        for (usage, client, bytes, action) in steps {
            let client = if client == 0 { None } else { address(client) };
            match action {
                0 => drop(charges.pop()),
                1 => if let Some(charge) = charges.last_mut() {
                    let charge: &mut Charge = charge;
                    charge.shrink(bytes);
                },
                _ => charges.extend(budget.take(MemoryUse::ALL[usage], client, bytes)),
            }
            prop_assert!(total(&budget) <= LIMIT);
            for usage in MemoryUse::ALL {
                prop_assert!(budget.used(usage) <= budget.share(usage));
            }
        }
        drop(charges);
        prop_assert_eq!(total(&budget), 0);
        prop_assert!(budget.0.accounts.lock().clients.is_empty());
    }
}

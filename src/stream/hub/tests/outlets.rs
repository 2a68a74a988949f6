//! Outlets: what the hub hands to the shards, beside their own queues.

use super::*;

/// An outlet that records the rounds it gets.
#[derive(Debug, Default)]
struct RecordingOutlet(Mutex<Vec<i64>>);

impl Outlet for RecordingOutlet {
    fn publish(&self, batch: &Batch) {
        let ids = batch.iter().map(|placed| placed.finish.round.columns().0);
        self.0.lock().extend(ids);
    }
}

#[test]
fn an_outlet_gets_every_round_and_opens_a_stream_between_two_batches() {
    let (hub, publisher) = hub(8);
    let outlet = Arc::new(RecordingOutlet::default());
    publisher.publish(vec![live(1, 1)]);
    hub.attach(outlet.clone());
    publisher.publish(vec![live(2, 1), live(3, 2)]);
    let topic = Topic::game(GameId::number(1));
    let joint =
        hub.subscribe_by_outlet(&topic, Start::Seed, 0, |joint| joint).ok().expect("a seed");
    assert_eq!(joint.position, Position(3));
    assert!(matches!(joint.opening, Opening::Seed(seeds) if ids(&seeds.frames) == [2]));
    publisher.publish(vec![live(4, 1)]);
    assert_eq!(*outlet.0.lock(), [2, 3, 4]);
}

#[test]
fn a_slow_subscriber_gets_its_missed_rounds_in_portions() {
    let (hub, publisher) = hub(4);
    publisher.publish((1..=6).map(|id| live(id, 1)).collect());
    let missed = |from, most| {
        let missed = hub.missed(&Topic::Everything, &Later::all_after(Position(from)), most)?;
        let ids: Vec<_> = missed.rounds.iter().map(|placed| placed.position.0).collect();
        Some((ids, missed.whole.map(|position| position.0)))
    };
    assert_eq!(missed(2, 3), Some((vec![3, 4, 5], None)));
    assert_eq!(missed(5, 3), Some((vec![6], Some(6))));
    assert_eq!(missed(1, 3), None);
}

//! What the hub keeps while rounds have more bytes than the memory for them.

use super::*;

const LIMIT: usize = 8 << 20;

/// A hub that keeps four rounds of each game, in 4 MiB; queues may have 2 MiB.
fn small_hub() -> (Hub, Publisher, MemoryBudget, Metrics) {
    let metrics = Metrics::default();
    let budget = MemoryBudget::new(LIMIT, &metrics);
    let history = NonZeroUsize::new(4).expect("not zero");
    let settings = HubSettings { history, replay_bytes: usize::MAX, budget: budget.clone() };
    let (hub, publisher) = with_settings(settings, metrics.clone());
    publisher.open();
    (hub, publisher, budget, metrics)
}

/// A round of which a frame has some 200 KB.
fn large(id: i64, game: i64) -> Captured {
    let mut captured = live(id, game);
    captured.round.extras = "x".repeat(100_000).into();
    captured
}

#[test]
fn rounds_that_a_subscription_does_not_take_leave_its_channel_once_queues_have_their_memory() {
    let (hub, publisher, budget, metrics) = small_hub();
    let (_, slow) = seed(&hub, &Topic::Everything);
    let (_, mut fast) = seed(&hub, &Topic::Everything);
    let (_, of_game) = seed(&hub, &Topic::game(GameId::number(1)));
    let mut taken = Vec::new();
    for id in 1..=100 {
        publisher.publish(vec![large(id, 1)]);
        let used = budget.used(MemoryUse::queues);
        assert!(used <= budget.share(MemoryUse::queues) + 400_000, "{used} bytes after {id}");
        taken.extend(drain(&mut fast).0);
    }
    assert_eq!(taken, (1..=100).collect::<Vec<_>>(), "one that reads loses nothing");
    assert_eq!(metrics.subscriber_refills_total.get(), 0, "and needs no refill");
    assert!(metrics.topic_queue_bytes.get() > 0);
    for mut behind in [slow, of_game] {
        assert_eq!(drain(&mut behind), (Vec::new(), true), "its rounds are in no ring buffer");
    }
    publisher.publish(vec![live(101, 1)]);
    assert_eq!(metrics.topic_queue_bytes.get(), 0, "nobody waits");
}

#[test]
fn a_publisher_of_many_rounds_waits_for_a_subscription_that_is_behind() {
    let (hub, publisher, _, _) = small_hub();
    let (_, mut subscription) = seed(&hub, &Topic::Everything);
    (1..=4).for_each(|id| publisher.publish(vec![large(id, 1)]));
    assert!(publisher.0.recent().has_outlet_behind());
    assert_eq!(drain(&mut subscription), (vec![1, 2, 3, 4], false));
    assert!(!publisher.0.recent().has_outlet_behind());
}

#[test]
fn latest_rounds_beyond_the_memory_for_history_are_read_for_each_opening() {
    let (hub, publisher, budget, metrics) = small_hub();
    for game in 1..=40 {
        publisher.publish(vec![large(game, game)]);
        assert!(budget.used(MemoryUse::history) <= budget.share(MemoryUse::history));
    }
    let dropped = metrics.latest_rounds_dropped.get();
    assert!((20..40).contains(&dropped), "{dropped} of 40 games");
    let seeds = hub.seed_list(&Topic::Everything, SeedMode::Each);
    let missing: Vec<_> = seeds.into_iter().filter_map(Result::err).collect();
    assert_eq!(missing.len() as i64, dropped);
    let game = missing[0].game.clone();
    let topic = Topic::game(game.clone());
    assert!(hub.subscribe(&topic, Start::Seed, 10).is_none(), "the seed has to be read");
    assert!(matches!(hub.latest(&topic), Some(Err(latest)) if latest.age == missing[0].age));
    let read = |topic: &Topic, seed| {
        let start = SeededStart { start: Start::Seed, seed, reads_seeds: true };
        let (opening, _) = hub.subscribe(topic, start, 10).expect("an opening");
        let Opening::Seed(seeds) = opening else { panic!("{opening:?}") };
        (ids(&seeds.frames), seeds.stored)
    };
    let (held, stored) = read(&topic, SeedMode::Latest);
    assert!(held.is_empty() && matches!(&stored[..], [Err(seed)] if seed.age == missing[0].age));
    let (held, stored) = read(&Topic::Everything, SeedMode::Each);
    let id = |seed: &SeedRound| match seed {
        Ok(frame) => frame.round_id().columns().0,
        Err(missing) => missing.age.1.columns().0,
    };
    // Those that the hub has come in their places between those that are read.
    assert_eq!(stored.iter().map(id).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    assert!(held.is_empty() && stored.iter().filter(|seed| seed.is_err()).count() == missing.len());
    // A later round is in memory, and the one that was read is not the latest any more.
    let number = game.as_number().expect("a number");
    publisher.publish(vec![live(100, number)]);
    assert_eq!(metrics.latest_rounds_dropped.get(), dropped - 1);
    let (held, stored) = read(&topic, SeedMode::Latest);
    assert!(held == [100] && stored.is_empty());
    publisher.forget_all();
    assert_eq!(metrics.latest_rounds_dropped.get(), 0);
}

#[test]
fn types_that_no_game_and_no_recent_round_has_any_more_are_forgotten() {
    let (hub, publisher, _, _) = small_hub();
    publisher.publish(vec![live(1, 1)]);
    let retyped = |kind: String| {
        let (id, name) = (GameId::number(1), Arc::<str>::from("game-1"));
        hub.classify(&[Game { id, slug: Arc::clone(&name), name, kind: kind.into() }]);
    };
    (0..10_000).for_each(|number| retyped(format!("type-{number}")));
    assert!(publisher.0.recent().types() <= 67, "{} types", publisher.0.recent().types());
    let (seeded, _) = seed(&hub, &Topic::kind("type-9999"));
    assert_eq!(seeded.map(|frame| ids(&[frame])), Some(vec![1]));
    let (_, mut former) = seed(&hub, &Topic::kind("odd"));
    let resumed = resumed(&hub, &Topic::kind("odd"), 1);
    assert_eq!((resumed, drain(&mut former)), (Some(vec![]), (vec![], false)));
}

#[test]
fn types_of_recent_rounds_are_kept_however_many_they_are_and_searched_for_when_they_have_doubled() {
    let (hub, publisher, _, _) = small_hub();
    let publish = |id: i64, kind: String| {
        let mut captured = live(id, 1 + id % 40);
        captured.round.game_type = kind.into();
        publisher.publish(vec![captured]);
    };
    // Four rounds of each of 40 games, each round of another type.
    (0..160).for_each(|id| publish(id, format!("type-{id}")));
    hub.classify(&[]);
    assert_eq!(publisher.0.recent().types(), 160);
    let topic = Topic::kind("type-3");
    assert_eq!(resumed(&hub, &topic, 3), Some(vec![]), "a former type of a round in memory");
    // None of these has a round any more once the next ones are there, and no search is due.
    (160..320).for_each(|id| publish(id, format!("type-{id}")));
    hub.classify(&[]);
    assert_eq!(publisher.0.recent().types(), 320, "twice as many");
    publish(320, "one more".to_owned());
    hub.classify(&[]);
    assert_eq!(publisher.0.recent().types(), 160);
}

//! Whether NATS is well, as its nodes and the leader of the stream say.

use std::{collections::BTreeSet, fmt, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use super::nats::{Nats, node_number};
use crate::subscribers::http;

/// NATS gets well within about 10 s after most faults, on a busy machine too.
const WELL_WITHIN: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is wrong with NATS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Illness {
    /// Nodes that say that they are not well, or of which the leader says that they lack messages.
    nodes: BTreeSet<usize>,
    reasons: Vec<String>,
}

impl Illness {
    /// The node that is ill, if the others are well: they have everything, with a leader.
    pub(super) fn of_one_node(&self) -> Option<usize> {
        let has_leader = self.reasons.len() == self.nodes.len();
        let one = self.nodes.first().filter(|_| self.nodes.len() == 1);
        one.copied().filter(|_| has_leader)
    }

    fn add_node(&mut self, node: usize, reason: impl fmt::Display) {
        if self.nodes.insert(node) {
            self.reasons.push(format!("node {}: {reason}", node + 1));
        }
    }

    /// Adds what the leader of the stream says of its replicas.
    fn add_replicas(&mut self, info: &Value) {
        if info.pointer("/cluster/leader").is_none() {
            let reason = info.pointer("/error/description").and_then(Value::as_str);
            self.reasons.push(reason.unwrap_or("the stream has no leader").to_owned());
        }
        let replicas = info.pointer("/cluster/replicas").and_then(Value::as_array);
        for replica in replicas.into_iter().flatten() {
            let is = |name: &str| replica.get(name).and_then(Value::as_bool).unwrap_or_default();
            let node = replica.get("name").and_then(Value::as_str).and_then(node_number);
            if let Some(node) = node.filter(|_| !is("current") || is("offline")) {
                let lag = replica.get("lag").and_then(Value::as_u64).unwrap_or_default();
                self.add_node(node, format_args!("its replica is not current (lag {lag})"));
            }
        }
    }
}

impl fmt::Display for Illness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}

impl Nats {
    /// Waits until every node is well, the stream has a leader, and every replica is current. Fails
    /// with what is wrong at the end of the time.
    pub(super) async fn get_well(&self, stream: &str) -> Result<(), Illness> {
        let begun = Instant::now();
        loop {
            let illness = self.illness(stream).await;
            if illness == Illness::default() {
                return Ok(());
            }
            if begun.elapsed() > WELL_WITHIN {
                return Err(illness);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn illness(&self, stream: &str) -> Illness {
        let mut illness = Illness::default();
        let nodes = join_all(self.health_urls().into_iter().map(health)).await;
        for (number, health) in nodes.into_iter().enumerate() {
            if let Err(reason) = health {
                illness.add_node(number, reason);
            }
        }
        match self.ask(&format!("STREAM.INFO.{stream}")).await {
            Ok(info) => illness.add_replicas(&info),
            Err(error) => illness.reasons.push(error.to_string()),
        }
        illness
    }
}

/// What a node says of itself: JetStream, the meta group, and its replica of each stream.
async fn health(url: String) -> Result<(), String> {
    let answer = http().get(url).timeout(ANSWER_WITHIN).send().await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(answer.text().await.unwrap_or_else(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn illness(info: &Value) -> Illness {
        let mut illness = Illness::default();
        illness.add_replicas(info);
        illness
    }

    #[test]
    fn a_stream_is_well_if_it_has_a_leader_and_every_replica_is_current() {
        let replica = |node: usize, current: bool| json!({"name": format!("node-{node}"), "current": current, "lag": 3});
        let info = |replicas: Value| json!({"cluster": {"leader": "node-0", "replicas": replicas}});
        let well = illness(&info(json!([replica(1, true), replica(2, true)])));
        assert_eq!(well, Illness::default());
        let lagging = illness(&info(json!([replica(1, true), replica(2, false)])));
        assert_eq!(lagging.to_string(), "node 3: its replica is not current (lag 3)");
        assert_eq!(lagging.of_one_node(), Some(2));
        let two = illness(&info(json!([replica(1, false), replica(2, false)])));
        assert_eq!(two.of_one_node(), None);
    }

    #[test]
    fn a_stream_without_a_leader_is_not_repaired_by_one_node() {
        let mut leaderless = illness(&json!({"cluster": {"replicas": []}}));
        assert_eq!(leaderless.to_string(), "the stream has no leader");
        leaderless.add_node(1, "not current");
        assert_eq!(leaderless.of_one_node(), None);
        let gone = illness(&json!({"error": {"description": "stream not found"}}));
        assert_eq!(gone.to_string(), "stream not found");
    }
}

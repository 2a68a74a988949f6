//! Guesses how a table is attached, by the names and types of its columns.

use super::{
    game,
    table::{Column, Table, has_word, words},
};

/// Names of tables of rounds.
const ROUNDS: [&str; 31] = [
    "round", "rounds", "result", "results", "match", "matches", "hand", "hands", "spin", "spins",
    "bet", "bets", "draw", "draws", "play", "plays", "race", "races", "duel", "duels", "roll",
    "rolls", "deal", "deals", "game", "games", "outcome", "outcomes", "flip", "flips", "log",
];
/// Words of a column that is set when a round finishes, the best first.
const FINISHED: [&[&str]; 8] = [
    &["finished", "finish"],
    &["settled"],
    &["ended"],
    &["completed", "concluded", "closed", "resolved", "decided"],
    &["drawn", "dealt", "played", "rolled", "done"],
    &["end", "ends"],
    &["at", "logged", "time", "date"],
    &["updated", "modified"],
];
/// The words from this place on name other times as well.
const WEAK_FROM: usize = 6;
/// Times of other events.
const OTHER_TIMES: [&str; 16] = [
    "created",
    "inserted",
    "started",
    "start",
    "starts",
    "deleted",
    "voided",
    "cancelled",
    "canceled",
    "expires",
    "expired",
    "scheduled",
    "opened",
    "birth",
    "sent",
    "archived",
];
const REMOVED: [&str; 4] = ["deleted", "voided", "cancelled", "canceled"];
const DONE: [&str; 11] = [
    "finished",
    "settled",
    "closed",
    "completed",
    "complete",
    "ended",
    "done",
    "resolved",
    "final",
    "finalized",
    "concluded",
];
const STATES: [&str; 4] = ["status", "state", "phase", "stage"];
const EXTRAS: [&str; 8] =
    ["extras", "payload", "result", "outcome", "data", "details", "meta", "metadata"];
/// Columns that nobody wants to publish by accident.
const PRIVATE: [&str; 14] = [
    "secret", "password", "email", "token", "ip", "seed", "salt", "phone", "user", "player",
    "account", "customer", "address", "hash",
];
/// A row of many columns makes a long command.
const EXTRAS_MAX: usize = 20;

/// Values of a bounded sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    /// The median of the column of numbers.
    pub(super) median: Option<f64>,
    pub(super) states: Vec<String>,
    pub(super) max_id: Option<i64>,
}

/// The columns that the guess is about to use.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) table: &'a Table,
    pub(super) ids: Vec<&'a Column>,
    pub(super) finished_at: &'a Column,
    /// A column of states, or a boolean.
    pub(super) state: Option<&'a Column>,
    /// The place of its words in the list.
    weakness: usize,
}

/// The options of `attach`, and remarks for the operator.
#[derive(Clone, Debug)]
pub(super) struct Guess {
    pub(super) options: Vec<(&'static str, String)>,
    pub(super) remarks: Vec<String>,
}

impl<'a> Candidate<'a> {
    /// `None` if the table has no id or no time. `any_name`: the operator has named the table.
    pub(super) fn of(table: &'a Table, any_name: bool) -> Option<Self> {
        let (weakness, finished_at) = finished_at(table)?;
        let is_named = any_name || has_word(&table.name, &ROUNDS);
        let state = state(table, finished_at);
        let is_strong = weakness < WEAK_FROM;
        let is_set_late = is_strong || !is_always_set(finished_at) || state.is_some();
        let fits = (is_named && is_set_late) || weakness < 2;
        fits.then_some(Self { table, ids: ids(table)?, finished_at, state, weakness })
    }

    /// The best guess is first.
    pub(super) fn rank(&self) -> (bool, usize) {
        (!has_word(&self.table.name, &ROUNDS), self.weakness)
    }

    /// `None` if only `--yes` would attach it, and nothing says that its rows are finished.
    pub(super) fn guess(&self, samples: &Samples, prefix: bool) -> Option<Guess> {
        let mut guess = Guess { options: Vec::new(), remarks: Vec::new() };
        self.guess_id(&mut guess, samples, prefix);
        let condition = self.condition(samples);
        self.guess_finish(&mut guess, samples, condition.as_deref())?;
        let game = game::guess(self.table);
        let extras = self.extras(&game.columns);
        guess.options.push(extras);
        guess.options.extend(game.options);
        guess.options.push(("--index", String::new()));
        Some(guess)
    }

    fn guess_id(&self, guess: &mut Guess, samples: &Samples, prefix: bool) {
        let names: Vec<&str> = self.ids.iter().map(|id| &*id.name).collect();
        guess.options.push(("--table", self.table.table.clone()));
        guess.options.push(("--id", names.join(",")));
        if prefix {
            guess.options.push(("--id-prefix", as_prefix(&self.table.name)));
        } else if samples.max_id.is_some_and(|max| max.unsigned_abs() >= 1 << 53) {
            guess.options.push(("--id-text", String::new()));
        }
    }

    fn guess_finish(
        &self,
        guess: &mut Guess,
        samples: &Samples,
        condition: Option<&str>,
    ) -> Option<()> {
        let column = self.finished_at;
        guess.options.push(("--finished-at", column.name.clone()));
        if column.is_time_number() {
            guess.options.push(("--finished-at-unit", unit(column, samples.median).to_owned()));
        } else if column.r#type != "timestamp with time zone" {
            guess.remarks.push(format!("{} is taken as UTC; see --time-zone", column.quoted));
        }
        if let Some(condition) = condition {
            guess.options.push(("--finished-when", condition.to_owned()));
        } else if is_always_set(column) {
            if self.weakness >= WEAK_FROM {
                return None;
            }
            guess.remarks.push(match self.state {
                Some(state) => format!(
                    "{} has no known final value: add --finished-when, or open rounds are published",
                    state.quoted
                ),
                None => format!(
                    "{} is always set: --yes is right only if rows are inserted when a round has ended",
                    column.quoted
                ),
            });
            // `attach` refuses the command until it says when a round is finished.
            if self.state.is_none() {
                guess.options.push(("--yes", String::new()));
            }
        }
        Some(())
    }

    fn condition(&self, samples: &Samples) -> Option<String> {
        let state = self.state?;
        let condition = if state.r#type == "boolean" {
            state.quoted.clone()
        } else {
            let values = state.labels.iter().chain(&samples.states);
            let mut done: Vec<&String> = values.filter(|value| is_done(value)).collect();
            done.sort();
            done.dedup();
            let quoted: Vec<String> =
                done.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
            match &*quoted {
                [] => return None,
                [one] => format!("{} = {one}", state.quoted),
                several => format!("{} in ({})", state.quoted, several.join(", ")),
            }
        };
        let removed =
            |column: &&Column| column.is_moment() && !column.required && column.has_word(&REMOVED);
        let removed = self.table.columns.iter().filter(removed);
        let removed = removed.map(|column| format!(" and {} is null", column.quoted));
        Some(condition + &removed.collect::<String>())
    }

    fn extras(&self, of_game: &[String]) -> (&'static str, String) {
        let json = |column: &&Column| column.is_json() && column.is_readable();
        let mut columns = self.table.columns.iter().filter(json);
        let named = columns.clone().find(|column| column.has_word(&EXTRAS));
        if let Some(column) = named.or_else(|| columns.next()) {
            return ("--extras", column.name.clone());
        }
        let is_used = |column: &Column| {
            let ids = self.ids.iter().any(|id| id.name == column.name);
            let state = self.state.is_some_and(|state| state.name == column.name);
            ids || state || column.name == self.finished_at.name || of_game.contains(&column.name)
        };
        let is_extra = |column: &&Column| {
            column.is_readable()
                && !is_used(column)
                && column.r#type != "bytea"
                && !column.has_word(&PRIVATE)
        };
        let extras = self.table.columns.iter().filter(is_extra).take(EXTRAS_MAX);
        let extras: Vec<&str> = extras.map(|column| &*column.name).collect();
        let extras =
            if extras.is_empty() { self.finished_at.name.clone() } else { extras.join(",") };
        ("--extras-columns", extras)
    }
}

fn is_done(value: &str) -> bool {
    DONE.contains(&&*value.to_lowercase())
}

fn is_always_set(column: &Column) -> bool {
    column.required || column.has_default
}

/// The columns of the first unique index that `attach` takes. The index of a partitioned table has the
/// partition key too: there, a first column that a sequence fills is enough.
fn ids(table: &Table) -> Option<Vec<&Column>> {
    let columns = |key: &Vec<String>| -> Option<Vec<&Column>> {
        key.iter().map(|name| table.column(name)).collect()
    };
    let fits = |ids: &Vec<&Column>| {
        ids.iter().all(|id| id.required && id.is_key() && id.is_readable())
            && ids.iter().filter(|id| id.is_text()).count() <= 1
    };
    let keys: Vec<_> = table.keys.iter().filter_map(columns).collect();
    let first = |ids: &Vec<&'_ Column>| -> Option<usize> {
        ids.first().filter(|id| table.partitioned && id.is_filled && fits(&vec![**id])).map(|_| 1)
    };
    keys.iter().find_map(|ids| match first(ids) {
        Some(length) => Some(ids.get(..length)?.to_vec()),
        None => fits(ids).then(|| ids.clone()),
    })
}

/// The column whose words are best, and their place in the list.
fn finished_at(table: &Table) -> Option<(usize, &Column)> {
    let place = |column: &Column| FINISHED.iter().position(|words| column.has_word(words));
    let times = table.columns.iter().filter(|column| column.is_readable());
    let times = times.filter(|column| !column.has_word(&OTHER_TIMES));
    let ranked = times.filter_map(|column| Some((place(column)?, column)));
    // A number is a time only if its name says so.
    let ranked = ranked.filter(|(place, column)| {
        column.is_moment() || column.is_time_number() && *place < WEAK_FROM
    });
    ranked.min_by_key(|(place, column)| (*place, !column.is_moment()))
}

fn state<'a>(table: &'a Table, finished_at: &Column) -> Option<&'a Column> {
    let columns =
        || table.columns.iter().filter(|it| it.is_readable() && it.name != finished_at.name);
    let is_state = |column: &&Column| {
        column.has_word(&STATES) && (column.is_text() || !column.labels.is_empty())
    };
    let is_flag = |column: &&Column| column.r#type == "boolean" && column.has_word(&DONE);
    columns().find(is_state).or_else(|| columns().find(is_flag))
}

/// By the magnitude of the sample, else by the name, else by the type. 10^11 s is the year 5138, and
/// 10^14 ms as well.
fn unit(column: &Column, median: Option<f64>) -> &'static str {
    match median {
        Some(median) if median < 1e11 => "s",
        Some(median) if median < 1e14 => "ms",
        Some(_) => "us",
        None if column.has_word(&["us", "micros", "microseconds"]) => "us",
        None if column.has_word(&["ms", "millis", "milliseconds"]) => "ms",
        None if column.has_word(&["s", "sec", "secs", "seconds"]) || column.r#type != "bigint" => {
            "s"
        }
        None => "ms",
    }
}

/// Letters and digits of a name, joined by `-`, at most 32.
pub(super) fn as_prefix(name: &str) -> String {
    let ascii = |word: String| word.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let words: Vec<String> =
        words(name).into_iter().map(ascii).filter(|word| !word.is_empty()).collect();
    let slug: String = words.join("-").chars().take(32).collect();
    if slug.is_empty() { "rounds".to_owned() } else { slug }
}

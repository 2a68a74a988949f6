//! Does this program know the migrations that the database has? `serve` and `doctor` ask.

use std::fmt;

use super::{migrate, sql::sql};

/// The applied migrations, as [`compatibility`] takes them. PostgreSQL refuses it with `42P01` if there
/// is no schema, or one that an earlier text of the migrations made.
pub(crate) const QUERY: &str = sql!("schema_version");

/// Whether this program can use the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compatibility {
    /// The database has the migrations that this program knows, and no other.
    Current,
    /// It has later ones too, and each says that earlier programs may go on.
    CompatibleLater(Vec<i64>),
    /// It lacks some.
    Missing(Vec<i64>),
    /// It has one that this program does not know and that does not say so.
    Unknown {
        /// The first of these.
        version: i64,
    },
}

/// Compares `(version, compatible)` of the applied migrations with those of this program.
pub(crate) fn compatibility(applied: &[(i64, bool)]) -> Compatibility {
    compare(&migrate::versions(), applied)
}

fn compare(known: &[i64], applied: &[(i64, bool)]) -> Compatibility {
    let others: Vec<_> = applied.iter().filter(|(version, _)| !known.contains(version)).collect();
    // A program that knows it also knows what is missing.
    if let Some(&&(version, _)) = others.iter().find(|(_, compatible)| !compatible) {
        return Compatibility::Unknown { version };
    }
    let is_missing = |version: &&i64| !applied.iter().any(|(applied, _)| applied == *version);
    let missing: Vec<i64> = known.iter().filter(is_missing).copied().collect();
    if !missing.is_empty() {
        Compatibility::Missing(missing)
    } else if others.is_empty() {
        Compatibility::Current
    } else {
        Compatibility::CompatibleLater(others.into_iter().map(|(version, _)| *version).collect())
    }
}

impl Compatibility {
    /// What to do, if this program cannot use the schema.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Current | Self::CompatibleLater(_) => None,
            Self::Missing(_) => Some("run: datastream migrate"),
            Self::Unknown { .. } => {
                Some("use the version of datastream that has it, or a later one")
            }
        }
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("the database has all migrations of this program"),
            Self::CompatibleLater(versions) => write!(
                f,
                "the database has later migrations that this program may use: {}",
                list(versions)
            ),
            Self::Missing(versions) => {
                write!(f, "the database lacks migrations of this program: {}", list(versions))
            }
            Self::Unknown { version } => write!(
                f,
                "the database has migration {version}, which this program does not know and which \
                 does not say that earlier programs may go on"
            ),
        }
    }
}

fn list(versions: &[i64]) -> String {
    versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [i64; 3] = [100, 200, 300];

    fn applied(versions: &[i64]) -> Vec<(i64, bool)> {
        versions.iter().map(|version| (*version, false)).collect()
    }

    #[test]
    fn the_same_migrations_are_current() {
        assert_eq!(compare(&KNOWN, &applied(&KNOWN)), Compatibility::Current);
        let own: Vec<(i64, bool)> = migrate::versions().into_iter().map(|v| (v, false)).collect();
        assert_eq!(compatibility(&own), Compatibility::Current);
        assert_eq!(Compatibility::Current.remedy(), None);
    }

    #[test]
    fn what_is_missing_is_listed_wherever_it_is() {
        assert_eq!(compare(&KNOWN, &applied(&[100, 300])), Compatibility::Missing(vec![200]));
        assert_eq!(compare(&KNOWN, &applied(&[100])), Compatibility::Missing(vec![200, 300]));
        assert_eq!(compare(&KNOWN, &[]), Compatibility::Missing(KNOWN.to_vec()));
        let mixed = [(100, false), (200, false), (400, true)];
        assert_eq!(compare(&KNOWN, &mixed), Compatibility::Missing(vec![300]));
        let text = Compatibility::Missing(vec![200, 300]).to_string();
        assert_eq!(text, "the database lacks migrations of this program: 200, 300");
    }

    #[test]
    fn a_later_migration_is_accepted_only_if_it_says_so() {
        let later = |compatible| [&applied(&KNOWN)[..], &[(400, compatible)]].concat();
        assert_eq!(compare(&KNOWN, &later(true)), Compatibility::CompatibleLater(vec![400]));
        assert_eq!(compare(&KNOWN, &later(false)), Compatibility::Unknown { version: 400 });
        let both = [later(true), vec![(500, false)]].concat();
        assert_eq!(compare(&KNOWN, &both), Compatibility::Unknown { version: 500 });
        let with_a_gap = [(100, false), (400, false)];
        assert_eq!(compare(&KNOWN, &with_a_gap), Compatibility::Unknown { version: 400 });
        assert!(Compatibility::Unknown { version: 400 }.to_string().contains("migration 400"));
    }
}

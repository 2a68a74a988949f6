//! A table as the catalog describes it, and the words in names.

use serde::Deserialize;

/// A table that may have rounds.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Table {
    /// The qualified name, as in SQL.
    pub(super) table: String,
    pub(super) name: String,
    pub(super) partitioned: bool,
    pub(super) columns: Vec<Column>,
    /// The columns of each usable unique index. The primary key is first.
    pub(super) keys: Vec<Vec<String>>,
    pub(super) references: Vec<Reference>,
}

/// A column. Of a domain, `type` is the base type.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) quoted: String,
    pub(super) r#type: String,
    pub(super) required: bool,
    pub(super) has_default: bool,
    /// A sequence fills it, or it is a uuid.
    pub(super) is_filled: bool,
    generated: String,
    /// The values of its enum and of its check constraints.
    pub(super) labels: Vec<String>,
}

/// A foreign key of one column.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Reference {
    pub(super) column: String,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) id: String,
    pub(super) columns: Vec<Column>,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl Column {
    pub(super) fn is_integer(&self) -> bool {
        matches!(&*self.r#type, "smallint" | "integer" | "bigint")
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(&*self.r#type, "text" | "character varying" | "character")
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(&*self.r#type, "json" | "jsonb")
    }

    pub(super) fn is_moment(&self) -> bool {
        self.r#type.starts_with("timestamp") || self.r#type == "date"
    }

    pub(super) fn is_time_number(&self) -> bool {
        matches!(&*self.r#type, "integer" | "bigint" | "numeric" | "double precision")
    }

    /// `attach` takes it as an id, or as a part of one.
    pub(super) fn is_key(&self) -> bool {
        self.is_integer() || self.is_text() || matches!(&*self.r#type, "numeric" | "uuid")
    }

    /// No trigger reads a generated column that is not stored. Lists of columns are separated by commas.
    pub(super) fn is_readable(&self) -> bool {
        self.generated != "v" && !self.name.contains(|c: char| c == ',' || c.is_control())
    }

    pub(super) fn has_word(&self, wanted: &[&str]) -> bool {
        has_word(&self.name, wanted)
    }
}

/// Whether one of the words in a name is wanted.
pub(super) fn has_word(name: &str, wanted: &[&str]) -> bool {
    words(name).iter().any(|word| wanted.contains(&&**word))
}

/// The words of `ended_at`, `endedAt` and `Ended At`, in lower case.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && was_lower {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().into_iter().for_each(|word| word.extend(c.to_lowercase()));
        }
        was_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

//! What a token opens: the games and types that its claim names.

use std::collections::HashSet;

use serde_json::Value;

use super::lease::Lease;

/// What a request may read, and until when.
#[derive(Debug)]
pub(crate) struct Permission {
    opens: Opens,
    lease: Lease,
}

#[derive(Debug)]
enum Opens {
    Everything,
    Named { games: HashSet<String>, types: HashSet<String> },
}

impl Permission {
    /// Everything, without an end: tokens are off.
    pub(crate) fn public() -> Self {
        Self { opens: Opens::Everything, lease: Lease::ENDLESS }
    }

    /// The names in a claim: an array of strings, or one string with spaces between them. Anything
    /// else in it is ignored, so that it can have names for other programs.
    pub(super) fn from_claim(claim: Option<&Value>, lease: Lease) -> Self {
        let names: Vec<&str> = match claim {
            Some(Value::String(names)) => names.split_ascii_whitespace().collect(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let all = |prefix: &str| {
            let named = names.iter().filter_map(|name| name.strip_prefix(prefix));
            named.map(str::to_owned).collect()
        };
        let opens = if names.contains(&"*") {
            Opens::Everything
        } else {
            Opens::Named { games: all("game:"), types: all("type:") }
        };
        Self { opens, lease }
    }

    /// Until when.
    pub(crate) fn lease(&self) -> Lease {
        self.lease
    }

    /// Whether every game is open, those added later too.
    pub(crate) fn opens_everything(&self) -> bool {
        matches!(self.opens, Opens::Everything)
    }

    /// Whether all games of this type are open.
    pub(crate) fn opens_type(&self, kind: &str) -> bool {
        match &self.opens {
            Opens::Everything => true,
            Opens::Named { types, .. } => types.contains(kind),
        }
    }

    /// Whether this game is open by its own name, whatever its type.
    pub(crate) fn names_game(&self, slug: &str) -> bool {
        match &self.opens {
            Opens::Everything => true,
            Opens::Named { games, .. } => games.contains(slug),
        }
    }

    /// Whether any type is open.
    pub(crate) fn has_types(&self) -> bool {
        match &self.opens {
            Opens::Everything => true,
            Opens::Named { types, .. } => !types.is_empty(),
        }
    }

    /// Whether a game of this slug and type is open.
    pub(crate) fn opens_game(&self, slug: &str, kind: &str) -> bool {
        self.names_game(slug) || self.opens_type(kind)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn permission(claim: &Value) -> Permission {
        Permission::from_claim(Some(claim), Lease::ENDLESS)
    }

    #[test]
    fn a_claim_opens_what_it_names_in_both_forms() {
        for claim in [json!(["game:crash", "type:color"]), json!("game:crash  type:color")] {
            let permission = permission(&claim);
            assert!(permission.opens_game("crash", "multiplier"), "{claim}");
            assert!(permission.opens_game("double", "color") && permission.opens_type("color"));
            assert!(!permission.opens_game("other", "multiplier"));
            assert!(!permission.opens_type("multiplier") && !permission.opens_everything());
        }
    }

    #[test]
    fn a_star_opens_everything_and_only_alone() {
        assert!(permission(&json!(["x", "*"])).opens_everything());
        assert!(permission(&json!("*")).opens_game("any", "kind"));
        for claim in [json!(["game:*", "type:*", "**"]), json!("game:* type:*")] {
            let permission = permission(&claim);
            assert!(!permission.opens_everything() && !permission.opens_game("any", "kind"));
        }
    }

    #[test]
    fn anything_else_opens_nothing() {
        for claim in [json!(null), json!(7), json!({"game": "crash"}), json!(["crash", 1, null])] {
            let permission = permission(&claim);
            assert!(!permission.opens_game("crash", "multiplier"), "{claim}");
            assert!(!permission.opens_everything() && !permission.has_types());
        }
        assert!(!Permission::from_claim(None, Lease::ENDLESS).opens_game("crash", "multiplier"));
    }

    #[test]
    fn a_slug_with_a_space_can_be_named_in_an_array() {
        assert!(permission(&json!(["game:big win"])).opens_game("big win", "slot"));
    }
}

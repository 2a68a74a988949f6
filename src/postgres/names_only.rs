//! The queries of rounds without their content, for when PostgreSQL cannot read the content of one.

/// The query without the columns from `game_id` to `extras`: PostgreSQL evaluates none of them. What
/// remains names each round in the query's order.
pub(crate) fn names_only(sql: &str) -> String {
    let Some((names, content)) = sql.split_once(CONTENT) else { return sql.to_owned() };
    let rest = content.split_once(END).map_or("", |(_, rest)| rest);
    format!("{names}{rest}")
}

/// The columns between these are the content.
const CONTENT: &str = ", f.game_id, f.game_key, f.game_slug";
const END: &str = " as extras";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::sql::sql;

    #[test]
    fn a_query_of_rounds_without_content_names_them() {
        let sql = sql!("finished_since");
        let names = names_only(sql);
        assert!(names.len() + 100 < sql.len() && !names.contains("extras"), "{names}");
        assert!(names.starts_with("select f.attachment, f.round_id, f.round_key from "), "{names}");
    }
}

//! What the columns of views say on the server. Tables say it themselves; a view has its texts from `deploy/clickhouse/columns.tsv` and from
//! the tables whose columns it shows.

use std::collections::BTreeMap;

use super::schema::{MIGRATIONS, VIEWS, View};
use crate::store::{identifier, literal};

const ROWS: &str = include_str!("../../deploy/clickhouse/columns.tsv");
/// In the place of a column: the texts of another object.
const LIKE: &str = "like";
const PARAMETERS: &str = "v_parameter_defaults";

/// The statement that puts the comments on a view's columns; none for one without columns of its own, or that declares them itself.
pub(super) fn statement(view: &View) -> Option<String> {
    if view.takes_parameters() || view.kind() == "dictionary" || !declared(view.text()).is_empty() {
        return None;
    }
    let comments = of_view(view.name);
    let actions = comments.iter().map(|(column, text)| format!("COMMENT COLUMN IF EXISTS {} {}", identifier(column), literal(text)));
    let actions: Vec<String> = actions.collect();
    (!actions.is_empty()).then(|| format!("ALTER TABLE {} {}", identifier(view.name), actions.join(", ")))
}

/// Texts by column, for at least the columns that the view has.
fn of_view(name: &str) -> BTreeMap<String, String> {
    let mut comments = BTreeMap::new();
    if let Some(table) = name.strip_prefix("v_").or_else(|| name.strip_prefix("refresh_")) {
        comments.extend(of_object(table));
    }
    let own: Vec<(&str, &str)> = rows().filter(|(object, _, _)| *object == name).map(|(_, column, text)| (column, text)).collect();
    for (_, other) in own.iter().filter(|(column, _)| *column == LIKE) {
        comments.extend(if *other == PARAMETERS { meanings() } else { of_object(other) });
    }
    comments.extend(own.iter().filter(|(column, _)| *column != LIKE).map(|(column, text)| ((*column).to_owned(), (*text).to_owned())));
    comments
}

/// Of a table, or of a view that declares its columns.
fn of_object(name: &str) -> BTreeMap<String, String> {
    let tables = MIGRATIONS.iter().filter(|migration| migration.table() == name).map(|migration| migration.sql);
    let views = VIEWS.iter().filter(|view| view.name == name).map(View::text);
    tables.chain(views).flat_map(declared).collect()
}

/// Columns with a comment in a statement. Our own files are plain: a column is a line.
fn declared(sql: &str) -> BTreeMap<String, String> {
    let columns = sql.lines().filter_map(|line| {
        let line = line.strip_prefix("    ADD COLUMN IF NOT EXISTS ").or_else(|| line.strip_prefix("    "))?;
        let (column, rest) = line.trim().split_once(' ')?;
        let text = rest.split_once(" COMMENT '")?.1.split('\'').next()?;
        Some((column.trim_matches('`').to_owned(), text.to_owned()))
    });
    columns.collect()
}

/// The knobs with what they mean: lines of `('name', value, 'meaning')`.
fn meanings() -> BTreeMap<String, String> {
    let text = VIEWS.iter().find(|view| view.name == PARAMETERS).map_or("", View::text);
    let knobs = text.lines().filter_map(|line| {
        let (name, rest) = line.trim().strip_prefix("('")?.split_once('\'')?;
        let (_, meaning) = rest.split_once('\'')?;
        Some((name.to_owned(), meaning.split('\'').next()?.to_owned()))
    });
    knobs.collect()
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    ROWS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (object, rest) = line.split_once('\t')?;
        let (column, text) = rest.split_once('\t')?;
        Some((object, column, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_belongs_to_a_view_that_can_have_comments() {
        assert_eq!(rows().count(), ROWS.lines().filter(|line| !line.starts_with('#')).count(), "three cells a row");
        for (object, column, text) in rows() {
            let view = VIEWS.iter().find(|view| view.name == object).unwrap_or_else(|| panic!("columns.tsv: there is no view {object}"));
            assert!(statement(view).is_some(), "{object}: its columns cannot have comments from here");
            assert!(!text.is_empty(), "{object}.{column}");
            if column == LIKE {
                assert!(text == PARAMETERS || !of_object(text).is_empty(), "{object} is like {text}, which says nothing");
            }
        }
    }

    #[test]
    fn texts_come_from_tables_other_views_and_own_rows() {
        let codes = of_view("v_codes");
        assert_eq!(codes["verdict"], "genuine, suspect or counterfeit");
        assert_eq!(codes["serial"], "serial number from a GS1 Digital Link; empty = none");
        assert_eq!(of_view("v_purchases")["lines.sku"], "sku of each line");
        assert_eq!(of_view("v_segment_parameters")["half_life"], "influence: months in which an entry loses half its weight");
        let funnel = VIEWS.iter().find(|view| view.name == "v_funnel").expect("a view");
        let statement = statement(funnel).expect("a statement");
        assert!(statement.starts_with("ALTER TABLE `v_funnel` COMMENT COLUMN IF EXISTS `as_of` 'moment of"), "{statement}");
    }
}

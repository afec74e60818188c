//! Every table, view and column says on the server what it is, and `deploy/DATA-DICTIONARY.md` says the same.
//!
//! The file is made from the comments of a migrated database: after a change of the schema run this test with `ONECODE_BLESS=1`, and read
//! what changed before committing it.

use std::fmt::Write as _;
use std::path::Path;

use onecode::config::Config;
use onecode::migrate;
use onecode::migrate::schema::VIEWS;
use onecode_local::{ClickHouse, ClickHouseOptions};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/DATA-DICTIONARY.md");
const HEAD: &str = "\
# Data dictionary

Made from the comments in the schema by `ONECODE_BLESS=1 cargo test --test data_dictionary`; never edited by hand. Money is in minor units
of the currency of the brand, times are UTC, days and months are those of the brand's calendar. Read the views: they apply FINAL and sum
over tasks. Names may be queried for their comments on the server: `system.tables`, `system.columns`.
";

struct Object {
    name: String,
    engine: String,
    comment: String,
    /// Name, type and comment.
    columns: Vec<[String; 3]>,
}

/// Cells of a query's rows.
fn rows<const CELLS: usize>(clickhouse: &ClickHouse, sql: &str) -> Vec<[String; CELLS]> {
    let answer = clickhouse.query_in("dictionary", &format!("{sql} FORMAT TSVRaw")).expect(sql);
    let cells = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>().try_into().expect("the cells of a row");
    answer.lines().map(cells).collect()
}

fn objects(clickhouse: &ClickHouse) -> Vec<Object> {
    let tables =
        "SELECT name, engine, comment FROM system.tables WHERE database = 'dictionary' AND NOT startsWith(name, '.') ORDER BY name";
    let with_columns = |[name, engine, comment]: [String; 3]| {
        let columns =
            format!("SELECT name, type, comment FROM system.columns WHERE database = 'dictionary' AND table = '{name}' ORDER BY position");
        Object { columns: rows(clickhouse, &columns), name, engine, comment }
    };
    rows(clickhouse, tables).into_iter().map(with_columns).collect()
}

/// What a reader calls it by: parameterised views have no columns before they are called, and dictionaries cannot comment theirs.
fn kind(object: &Object) -> &'static str {
    match object.engine.as_str() {
        "View" if object.columns.is_empty() => "view with parameters",
        "View" => "view",
        "MaterializedView" => "refreshable view",
        "Dictionary" => "dictionary",
        _ => "table",
    }
}

fn chapter(text: &mut String, title: &str, objects: &[Object], kinds: &[&str]) {
    writeln!(text, "\n## {title}").expect("text");
    for object in objects.iter().filter(|object| kinds.contains(&kind(object))) {
        writeln!(text, "\n### {}\n\n{}: {}", object.name, kind(object), object.comment).expect("text");
        if object.columns.is_empty() {
            continue;
        }
        writeln!(text, "\n| column | type | meaning |\n|---|---|---|").expect("text");
        for [name, kind, comment] in &object.columns {
            writeln!(text, "| {name} | {kind} | {comment} |").expect("text");
        }
    }
}

#[tokio::test]
async fn everything_in_the_schema_says_what_it_is_and_the_data_dictionary_repeats_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir(dir.path())).expect("ClickHouse");
    let text = format!("[clickhouse]\nurl = \"{}\"\ndatabase = \"dictionary\"\n", clickhouse.url());
    let config = Config::from_text(&text, Path::new("onecode.toml"), []).expect("a configuration");
    for step in migrate::plan(&config).await.expect("a plan") {
        migrate::apply(&config.clickhouse, &step).await.expect("a step");
    }
    let mut objects = objects(&clickhouse);
    assert!(VIEWS.iter().all(|view| objects.iter().any(|object| object.name == view.name)), "a view is missing on the server");

    let mut silent: Vec<String> = Vec::new();
    for object in &objects {
        if object.comment.is_empty() {
            silent.push(format!("add a comment to {} in its SQL file", object.name));
        }
        let silent_columns = object.columns.iter().filter(|[_, _, comment]| comment.is_empty() && object.engine != "Dictionary");
        silent.extend(silent_columns.map(|[name, _, _]| {
            let place = if object.engine.ends_with("View") { "deploy/clickhouse/columns.tsv" } else { "its SQL file" };
            format!("add a comment to {}.{name} in {place}", object.name)
        }));
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));

    // The dictionary serves a table, whose words count for it.
    let places = objects.iter().find(|object| object.name == "regions").expect("a table").columns.clone();
    for [name, _, comment] in objects.iter_mut().filter(|object| object.engine == "Dictionary").flat_map(|object| &mut object.columns) {
        let [_, _, words] = places.iter().find(|[place, _, _]| place == name).expect("a column of the table");
        comment.clone_from(words);
    }
    let mut expected = HEAD.to_owned();
    chapter(&mut expected, "Views for readers", &objects, &["view", "view with parameters", "dictionary"]);
    chapter(&mut expected, "Lists that ClickHouse refreshes by itself", &objects, &["refreshable view"]);
    chapter(&mut expected, "Tables", &objects, &["table"]);
    if std::env::var_os("ONECODE_BLESS").is_some() {
        std::fs::write(FILE, &expected).expect("written");
    }
    let found = std::fs::read_to_string(FILE).unwrap_or_default();
    let difference = expected.lines().zip(found.lines().chain(std::iter::repeat(""))).find(|(now, then)| now != then);
    assert!(
        found == expected,
        "deploy/DATA-DICTIONARY.md is not that of the schema (first: {difference:?}); run this test with ONECODE_BLESS=1"
    );
}

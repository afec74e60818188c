//! Defaults, file and environment, merged key by key, with the place that each value came from.
//!
//! The defaults are the schema: a key that they do not have is unknown, and a variable's text is read as the type that they have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Num, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::raw::{RawBrand, RawConfig};
use super::secret::{REDACTED, is_secret_client_option};
use super::{ConfigError, Problem, Setting, ranges};

const PREFIX: &str = "ONECODE_";
/// Variables of other programs (the local stack, the simulator, the chaos scripts) and of the process itself.
const FOREIGN: [&str; 6] = ["LOCAL_", "SIM_", "CHAOS_", "FAILPOINT", "LOG", "CONFIG"];
const DEFAULT_SOURCE: &str = "default";

/// A key as its segments: `kafka.client."sasl.username"` has three.
pub(super) type KeyPath = Vec<String>;

/// The merged layers.
pub(super) struct Layers {
    pub path: PathBuf,
    merged: Figment,
    sources: BTreeMap<KeyPath, String>,
    pub problems: Vec<Problem>,
}

impl Layers {
    /// Reads all layers. Unknown keys become problems; only text that is no TOML is an error at once.
    pub fn read(text: &str, path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Layers, ConfigError> {
        let mut layers = Layers {
            path: path.to_owned(),
            merged: Figment::from(Serialized::defaults(RawConfig::default())),
            sources: BTreeMap::new(),
            problems: Vec::new(),
        };
        let mut file = parse_toml(text).map_err(|message| ConfigError::Syntax { path: path.to_owned(), message })?;
        layers.move_brands_closed(&mut file);
        layers.add(file, &format!("in {}", path.display()));
        let mut variables: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            layers.add_variable(&name, &value);
        }
        Ok(layers)
    }

    /// `brands_closed` may stand above the sections too, beside the `[brands.*]` that it speaks of.
    fn move_brands_closed(&mut self, file: &mut Dict) {
        let Some(closed) = file.remove("brands_closed") else { return };
        match file.entry("pipeline".to_owned()).or_insert_with(|| Value::from(Dict::new())) {
            Value::Dict(_, pipeline) if !pipeline.contains_key("brands_closed") => {
                pipeline.insert("brands_closed".to_owned(), closed);
            }
            _ => self.problems.push(Problem {
                key: "brands_closed".to_owned(),
                value: None,
                source: format!("in {}", self.path.display()),
                message: "is set twice, here and as `pipeline.brands_closed`; keep one of them".to_owned(),
            }),
        }
    }

    fn add(&mut self, values: Dict, source: &str) {
        let schema = schema();
        let mut known = Dict::new();
        for (key, value) in leaves(&values).into_iter().chain(empty_sections(&values)) {
            match expected(&schema, &key) {
                Expected::Unknown => self.problems.push(unknown_key(&schema, &key, source)),
                Expected::Section if matches!(&value, Value::Dict(..)) => {}
                Expected::Section => self.problems.push(Problem {
                    key: shown(&key),
                    value: Some(shown_value(&key, &value)),
                    source: source.to_owned(),
                    message: "is a section, not a value".to_owned(),
                }),
                Expected::Like(default) => match type_problem(&key, &default, &value, source) {
                    Some(problem) => self.problems.push(problem),
                    None => {
                        insert(&mut known, &key, value);
                        self.sources.insert(key, source.to_owned());
                    }
                },
            }
        }
        // Empty sections count too: a brand without any key of its own is still a brand.
        for brand in brands_of(&values) {
            let mut section = Dict::new();
            section.insert(brand, Value::from(Dict::new()));
            self.merge(Dict::from([("brands".to_owned(), Value::from(section))]));
        }
        self.merge(known);
    }

    fn merge(&mut self, values: Dict) {
        let merged = std::mem::take(&mut self.merged);
        self.merged = merged.merge(Layer(values));
    }

    fn add_variable(&mut self, name: &str, text: &str) {
        let suffix = name.trim_start_matches(PREFIX);
        if FOREIGN.iter().any(|foreign| suffix.starts_with(foreign)) {
            return;
        }
        let schema = schema();
        let source = format!("variable {name}");
        let Some(key) = key_of_variable(suffix) else {
            if schema.keys().any(|section| suffix.to_ascii_lowercase().starts_with(&format!("{section}_"))) {
                let message = "is no key; sections and keys are separated by two underscores, as in ONECODE_KAFKA__BROKERS".to_owned();
                self.problems.push(Problem { key: name.to_owned(), value: None, source, message });
            }
            return;
        };
        let value = match expected(&schema, &key) {
            Expected::Unknown => {
                self.problems.push(unknown_key(&schema, &key, &source));
                return;
            }
            Expected::Section => parse_value(text),
            Expected::Like(default) => variable_value(text, &default),
        };
        let mut values = Dict::new();
        insert(&mut values, &key, value);
        self.add(values, &source);
    }

    /// Where a key's value was set.
    pub fn source(&self, key: &[String]) -> String {
        self.sources.get(key).cloned().unwrap_or_else(|| DEFAULT_SOURCE.to_owned())
    }

    /// The merged keys. Types were checked before, so that an error here is a fault of this module; it is still reported as one.
    pub fn extract(&self) -> Result<RawConfig, Problem> {
        self.merged.extract().map_err(|error| Problem {
            key: error.path.join("."),
            value: None,
            source: self.path.display().to_string(),
            message: error.kind.to_string(),
        })
    }

    /// Every key with its effective value and where it was set; secrets are redacted.
    pub fn settings(&self, raw: &RawConfig) -> Vec<Setting> {
        leaves(&to_dict(raw))
            .into_iter()
            .map(|(key, value)| Setting { key: shown(&key), value: shown_value(&key, &value), source: self.source(&key) })
            .collect()
    }
}

/// Every key with its default.
pub(super) fn defaults() -> Vec<Setting> {
    leaves(&schema())
        .into_iter()
        .map(|(key, value)| Setting { key: shown(&key), value: shown_value(&key, &value), source: DEFAULT_SOURCE.to_owned() })
        .collect()
}

/// One layer without a name of its own: sources are kept by key, in [`Layers`].
struct Layer(Dict);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named("configuration")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

enum Expected {
    Unknown,
    Section,
    Like(Value),
}

/// What the schema has at a key.
fn expected(schema: &Dict, key: &[String]) -> Expected {
    match key {
        [kafka, client, _] if kafka == "kafka" && client == "client" => Expected::Like(Value::from("")),
        [brands, _] if brands == "brands" => Expected::Section,
        [brands, _, name] if brands == "brands" => {
            to_dict(&RawBrand::default()).get(name).map_or(Expected::Unknown, |value| Expected::Like(value.clone()))
        }
        [name] => match schema.get(name) {
            Some(Value::Dict(..)) => Expected::Section,
            Some(value) => Expected::Like(value.clone()),
            None => Expected::Unknown,
        },
        [section, rest @ ..] => match schema.get(section) {
            Some(Value::Dict(_, section)) => expected(section, rest),
            _ => Expected::Unknown,
        },
        [] => Expected::Section,
    }
}

fn type_problem(key: &[String], default: &Value, value: &Value, source: &str) -> Option<Problem> {
    let is_client_option = matches!(key, [kafka, client, _] if kafka == "kafka" && client == "client");
    let may_be_list =
        matches!(key, [topics, kind, name] if topics == "topics" && name == "name" && !matches!(kind.as_str(), "exchange" | "dead_letter"));
    let (fits, wanted) = match default {
        _ if is_client_option => {
            (matches!(value, Value::String(..) | Value::Num(..) | Value::Bool(..)), "a text, a number or true or false")
        }
        Value::String(..) if may_be_list => (is_text_or_list(value), "a topic's name, or a list of names"),
        Value::String(..) => (matches!(value, Value::String(..)), "a text in quotes"),
        Value::Bool(..) => (matches!(value, Value::Bool(..)), "true or false"),
        Value::Num(_, Num::F64(_)) => (matches!(value, Value::Num(..)), "a number"),
        Value::Num(..) => (value.to_i128().is_some_and(|number| i64::try_from(number).is_ok()), "a whole number"),
        _ => (true, ""),
    };
    if fits {
        return None;
    }
    let bounds = ranges::of(&shown(key)).map_or_else(String::new, |range| format!(" from {} to {}", range.least, range.most));
    Some(Problem {
        key: shown(key),
        value: Some(shown_value(key, value)),
        source: source.to_owned(),
        message: format!("must be {wanted}{bounds}"),
    })
}

fn is_text_or_list(value: &Value) -> bool {
    match value {
        Value::String(..) => true,
        Value::Array(_, names) => names.iter().all(|name| matches!(name, Value::String(..))),
        _ => false,
    }
}

fn unknown_key(schema: &Dict, key: &[String], source: &str) -> Problem {
    let wrong = shown(key);
    let known: Vec<String> = leaves(schema).into_iter().map(|(path, _)| shown(&path)).collect();
    let nearest = nearest(&wrong, known.iter().map(String::as_str));
    let hint = nearest.map_or_else(|| "deploy/onecode.example.toml lists all keys".to_owned(), |name| format!("did you mean `{name}`?"));
    Problem { key: wrong, value: None, source: source.to_owned(), message: format!("unknown key; {hint}") }
}

/// The known name that a wrong one most probably stands for: a few letters off, or the same key of another section.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let by_distance = known.clone().map(|name| (edit_distance(wrong, name), name)).min();
    match by_distance {
        Some((distance, name)) if distance <= 2 + wrong.len() / 8 => Some(name),
        _ => known.into_iter().find(|name| last(name) == last(wrong)),
    }
}

/// Levenshtein's distance in characters.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut previous = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in right.iter().enumerate() {
            let substituted = previous + usize::from(from != *to);
            previous = row[j + 1];
            row[j + 1] = substituted.min(previous + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// `KAFKA__CLIENT__SASL_USERNAME` is `kafka.client."sasl.username"`; none without a section, but for `BRANDS_CLOSED`.
fn key_of_variable(suffix: &str) -> Option<KeyPath> {
    let lower = suffix.to_ascii_lowercase();
    if lower == "brands_closed" {
        return Some(vec!["pipeline".to_owned(), lower]);
    }
    // librdkafka's options have dots, which a shell does not take in a name, and no underscores.
    if let Some(option) = lower.strip_prefix("kafka__client__") {
        return Some(vec!["kafka".to_owned(), "client".to_owned(), option.replace("__", ".").replace('_', ".")]);
    }
    // A brand's name may hold any number of underscores; its keys' names hold single ones.
    if let Some((brand, name)) = lower.strip_prefix("brands__").and_then(|rest| rest.rsplit_once("__")) {
        return Some(vec!["brands".to_owned(), brand.to_owned(), name.to_owned()]);
    }
    lower.contains("__").then(|| lower.split("__").map(str::to_owned).collect())
}

/// The text of a variable as the type of the key's default; text of another type stays text, and is found wrong as such.
fn variable_value(text: &str, default: &Value) -> Value {
    match default {
        Value::String(..) if text.trim_start().starts_with('[') => parse_value(text),
        Value::Bool(..) => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Value::Num(_, Num::F64(_)) => text.parse::<f64>().map_or_else(|_| Value::from(text), Value::from),
        Value::Num(..) => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        _ => Value::from(text),
    }
}

/// A TOML value, or the text itself when it is none.
fn parse_value(text: &str) -> Value {
    parse_toml(&format!("value = {text}")).ok().and_then(|mut dict| dict.remove("value")).unwrap_or_else(|| Value::from(text))
}

fn parse_toml(text: &str) -> Result<Dict, String> {
    let mut profiles = Toml::string(text).data().map_err(|error| without_snippet(&error.to_string()))?;
    Ok(profiles.remove(&Profile::Default).unwrap_or_default())
}

/// The parser's message quotes the faulty line, which may hold a password; its first line has the place and its last the fault.
fn without_snippet(message: &str) -> String {
    let lines: Vec<&str> = message.lines().filter(|line| !line.trim_start().starts_with('|') && !is_snippet(line)).map(str::trim).collect();
    lines.join(": ")
}

fn is_snippet(line: &str) -> bool {
    line.split_once('|').is_some_and(|(number, _)| number.trim().bytes().all(|byte| byte.is_ascii_digit()))
}

fn schema() -> Dict {
    to_dict(&RawConfig::default())
}

fn to_dict<T: serde::Serialize>(section: &T) -> Dict {
    match Value::serialize(section) {
        Ok(Value::Dict(_, dict)) => dict,
        _ => Dict::new(),
    }
}

/// Sections that are named and have no key. They say nothing, unless their name is a mistake.
fn empty_sections(dict: &Dict) -> Vec<(KeyPath, Value)> {
    let mut found = Vec::new();
    for (name, value) in dict {
        let Value::Dict(_, section) = value else { continue };
        if section.is_empty() {
            found.push((vec![name.clone()], value.clone()));
        }
        found.extend(empty_sections(section).into_iter().map(|(key, value)| ([vec![name.clone()], key].concat(), value)));
    }
    found
}

/// All values that are no sections, in the order of their keys.
fn leaves(dict: &Dict) -> Vec<(KeyPath, Value)> {
    fn walk(dict: &Dict, prefix: &KeyPath, found: &mut Vec<(KeyPath, Value)>) {
        for (name, value) in dict {
            let mut key = prefix.clone();
            key.push(name.clone());
            match value {
                Value::Dict(_, section) => walk(section, &key, found),
                leaf => found.push((key, leaf.clone())),
            }
        }
    }
    let mut found = Vec::new();
    walk(dict, &Vec::new(), &mut found);
    found
}

fn brands_of(values: &Dict) -> Vec<String> {
    match values.get("brands") {
        Some(Value::Dict(_, brands)) => {
            brands.iter().filter(|(_, section)| matches!(section, Value::Dict(..))).map(|(brand, _)| brand.clone()).collect()
        }
        _ => Vec::new(),
    }
}

fn insert(dict: &mut Dict, key: &[String], value: Value) {
    match key {
        [] => {}
        [name] => {
            dict.insert(name.clone(), value);
        }
        [section, rest @ ..] => {
            let entry = dict.entry(section.clone()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

/// The key as it is written in TOML.
pub(super) fn shown(key: &[String]) -> String {
    let is_bare = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let parts: Vec<String> = key.iter().map(|part| if is_bare(part) { part.clone() } else { format!("\"{part}\"") }).collect();
    parts.join(".")
}

/// The value as TOML, or a placeholder if the key holds a secret.
pub(super) fn shown_value(key: &[String], value: &Value) -> String {
    let is_secret = match key {
        [section, name] => section == "clickhouse" && name == "password",
        [section, client, option] => section == "kafka" && client == "client" && is_secret_client_option(option),
        _ => false,
    };
    match value {
        Value::String(_, text) if is_secret && text.is_empty() => "\"\"".to_owned(),
        _ if is_secret => format!("\"{REDACTED}\""),
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, letter) => format!("\"{letter}\""),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => shown_number(*number),
        Value::Array(_, values) => {
            let parts: Vec<String> = values.iter().map(|part| shown_value(key, part)).collect();
            format!("[{}]", parts.join(", "))
        }
        Value::Dict(_, dict) => {
            let parts: Vec<String> = dict.iter().map(|(name, part)| format!("{name} = {}", shown_value(key, part))).collect();
            format!("{{ {} }}", parts.join(", "))
        }
        Value::Empty(..) => "\"\"".to_owned(),
    }
}

/// The number without its type.
pub(super) fn shown_number(number: Num) -> String {
    match number.to_f64() {
        Some(fraction) => fraction.to_string(),
        None => Value::Num(Tag::Default, number).to_i128().map_or_else(String::new, |whole| whole.to_string()),
    }
}

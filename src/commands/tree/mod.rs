//! `onecode tree`: a customer and whoever came by them, as a picture that stays small whatever the tree's size.
//!
//! Asks ClickHouse level by level and never for more customers a level than may be shown, so that a star of a million children costs
//! a screen of rows. Which of them are shown decides `pick`, how they look `draw`.

mod draw;
mod pick;

use std::collections::HashSet;
use std::io::{IsTerminal as _, Write};

use anyhow::bail;
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::customer::time_or_never;
use super::table::plain;
use crate::config::Config;
use crate::store::{Admin, AdminError, literal};
use pick::{Member, Node};

/// Shown under `--help`.
pub const EXAMPLES: &str = "\
Examples:
  onecode tree oXy7 --config onecode.toml
  onecode tree oXy7 --config onecode.toml --brand acme --depth 3
  onecode tree oXy7 --config onecode.toml --children 5 --lines 30
  onecode tree oXy7 --config onecode.toml --json | jq '.[0].tree.children[].customer_id'

The largest subtrees are shown first; \"and N more\" says how many are not shown. Times are UTC, money is in minor units, net is paid
less refunded. `in all` and `net below` count limits.levels levels, 16 by default. Exit code 1 when no brand knows the customer.
Every row of a tree, in SQL: SELECT * FROM v_referral_tree(brand = 'acme', customer = 'oXy7').";

/// Whose tree, and how much of it.
#[derive(Clone, Debug, clap::Args)]
pub struct TreeArgs {
    /// The customer's id, as producers send it
    id: String,
    /// Only this brand [default: every brand that knows the id]
    #[arg(long)]
    brand: Option<String>,
    /// How many levels to show below the customer
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100))]
    depth: u32,
    /// How many of those whom one customer brought to show at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    children: u32,
    /// How many customers to show at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    lines: u32,
    /// Print JSON: an array with one object a brand
    #[arg(long)]
    json: bool,
}

/// A brand's tree. Money is in minor units.
#[derive(Debug, Serialize)]
struct Tree {
    brand: String,
    /// What is below the customer, whether shown or not.
    levels: Vec<Level>,
    tree: Node,
}

/// `v_customer_subtrees`, summed over months.
#[derive(Debug, Row, Serialize, Deserialize)]
struct Level {
    /// 1 = brought directly.
    level: u8,
    customers: u64,
    orders: u64,
    paid: i64,
    refunded: i64,
    net: i64,
}

/// A root with its brand.
#[derive(Debug, Row, Deserialize)]
struct Brand {
    brand: String,
}

/// What a subtree is worth.
#[derive(Debug, Row, Deserialize)]
struct Worth {
    customer_id: String,
    net: i64,
}

/// Runs the command; what it finds goes to `out`.
///
/// # Errors
/// When ClickHouse cannot be asked, or does not know the customer.
pub async fn run(config: &Config, args: &TreeArgs, out: &mut impl Write) -> anyhow::Result<Verdict> {
    let store = Admin::new(&config.clickhouse);
    let mut trees = Vec::new();
    for Brand { brand } in brands(&store, args).await? {
        let levels = levels(&store, &brand, &args.id).await?;
        if let Some(tree) = tree(&store, &brand, args).await? {
            trees.push(Tree { brand, levels, tree });
        }
    }
    if trees.is_empty() {
        let place = args.brand.as_ref().map_or_else(|| "any brand".to_owned(), |brand| format!("brand `{}`", plain(brand)));
        bail!("no customer `{}` in {place} of database `{}`: ids are compared byte by byte", plain(&args.id), store.database());
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&trees)?)?;
        return Ok(Verdict::Fine);
    }
    let has_colour = has_colour();
    trees.iter().try_for_each(|tree| draw::write_tree(out, tree, has_colour))?;
    Ok(Verdict::Fine)
}

fn has_colour() -> bool {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    std::io::stdout().is_terminal() && variable("NO_COLOR").is_none() && variable("TERM").is_some_and(|term| term != "dumb")
}

async fn brands(store: &Admin, args: &TreeArgs) -> Result<Vec<Brand>, AdminError> {
    let brand = args.brand.as_ref().map_or_else(String::new, |brand| format!("c.brand = {} AND ", literal(brand)));
    let query =
        format!("SELECT toString(c.brand) AS brand FROM v_customers AS c WHERE {brand}customer_id = {} ORDER BY brand", literal(&args.id));
    store.rows(&query).await
}

async fn levels(store: &Admin, brand: &str, id: &str) -> Result<Vec<Level>, AdminError> {
    let query = format!(
        "SELECT level, sum(s.customers) AS customers, sum(s.orders) AS orders, sum(s.paid) AS paid, sum(s.refunded) AS refunded,
            sum(s.paid - s.refunded) AS net
         FROM v_customer_subtrees AS s WHERE brand = {} AND customer_id = {}
         GROUP BY level HAVING customers > 0 OR orders > 0 OR paid != 0 OR refunded != 0 ORDER BY level",
        literal(brand),
        literal(id),
    );
    store.rows(&query).await
}

async fn tree(store: &Admin, brand: &str, args: &TreeArgs) -> Result<Option<Node>, AdminError> {
    let condition = format!("customer_id = {}", literal(&args.id));
    let Some(root) = members(store, brand, &condition, args).await?.into_iter().next() else { return Ok(None) };
    let below = below(store, brand, &root, args).await?;
    let picked = pick::largest_first(root, below, args.lines as usize);
    let worth = worth(store, brand, &picked.ids()).await?;
    Ok(Some(picked.into_node(&worth.into_iter().map(|row| (row.customer_id, row.net)).collect())))
}

/// All that may be shown below the root. Each customer once, also while two rows of different moments close a circle.
async fn below(store: &Admin, brand: &str, root: &Member, args: &TreeArgs) -> Result<Vec<Member>, AdminError> {
    let mut seen = HashSet::from([root.customer_id.clone()]);
    let mut found: Vec<Member> = Vec::new();
    let mut level = vec![root.clone()];
    for _ in 0..args.depth {
        // Whoever is behind as many larger subtrees as there are lines is not shown, and nobody below is.
        let least = pick::least_shown(&found, args.lines as usize);
        let parents = level.iter().filter(|member| member.referred_direct > 0 && member.referred_total >= least);
        let parents: Vec<String> = parents.map(|member| literal(&member.customer_id)).collect();
        if parents.is_empty() {
            break;
        }
        let condition = format!("referrer_id IN ({})", parents.join(", "));
        level = members(store, brand, &condition, args).await?;
        level.retain(|member| seen.insert(member.customer_id.clone()));
        found.extend(level.iter().cloned());
    }
    Ok(found)
}

/// Those who meet the condition, largest first: of each parent no more, and in all no more, than may be shown.
async fn members(store: &Admin, brand: &str, condition: &str, args: &TreeArgs) -> Result<Vec<Member>, AdminError> {
    let query = format!(
        "SELECT customer_id, referrer_id, referral_share_id, {}, orders, paid, refunded, referred_direct, referred_total
         FROM v_customers AS c WHERE brand = {} AND {condition}
         ORDER BY c.referred_total DESC, c.paid - c.refunded DESC, customer_id LIMIT {} BY referrer_id LIMIT {}",
        time_or_never("first_event_time"),
        literal(brand),
        args.children,
        args.lines,
    );
    store.rows(&query).await
}

async fn worth(store: &Admin, brand: &str, ids: &[&str]) -> Result<Vec<Worth>, AdminError> {
    let ids: Vec<String> = ids.iter().map(|id| literal(id)).collect();
    let query = format!(
        "SELECT customer_id, sum(s.paid - s.refunded) AS net FROM v_customer_subtrees AS s
         WHERE brand = {} AND customer_id IN ({}) GROUP BY customer_id ORDER BY customer_id",
        literal(brand),
        ids.join(", "),
    );
    store.rows(&query).await
}

//! A tree as text: what is below by level, then the picture, columns aligned.
//!
//! Promises that no id commands the terminal, and that without colour there is no escape code.

use std::io::{self, Write};

use super::Tree;
use super::pick::Node;
use crate::commands::table::{plain, write_table};

const HEADER: [&str; 8] = ["customer", "level", "first event", "orders", "own net", "brought", "in all", "net below"];
const DIM: &str = "\u{1b}[2m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// Writes one brand's tree.
///
/// # Errors
/// When the output is gone.
pub(super) fn write_tree(out: &mut impl Write, tree: &Tree, has_colour: bool) -> io::Result<()> {
    let root = &tree.tree;
    let referrer = match root.referrer_id.as_str() {
        "" => "nobody".to_owned(),
        referrer => format!("{} by share {}", plain(referrer), plain(&root.referral_share_id)),
    };
    let heading = format!("tree of {} of brand {}", plain(&root.customer_id), tree.brand);
    let (bold, end) = if has_colour { (BOLD, PLAIN) } else { ("", "") };
    writeln!(out, "{bold}{heading}{end}, brought by {referrer}")?;
    if !tree.levels.is_empty() {
        write_levels(out, tree)?;
    }
    let mut rows = Vec::new();
    push_rows(root, "", "", &mut rows);
    let mut picture = Vec::new();
    write_table(&mut picture, HEADER, &rows)?;
    writeln!(out)?;
    for line in String::from_utf8_lossy(&picture).lines() {
        writeln!(out, "{}", if has_colour { with_dim_branches(line) } else { line.to_owned() })?;
    }
    writeln!(out)
}

fn write_levels(out: &mut impl Write, tree: &Tree) -> io::Result<()> {
    let mut rows: Vec<[String; 6]> = Vec::new();
    let row = |name: String, customers: u64, orders: u64, [paid, refunded, net]: [i64; 3]| {
        [name, customers.to_string(), orders.to_string(), paid.to_string(), refunded.to_string(), net.to_string()]
    };
    for level in &tree.levels {
        rows.push(row(level.level.to_string(), level.customers, level.orders, [level.paid, level.refunded, level.net]));
    }
    if tree.levels.len() > 1 {
        let levels = tree.levels.iter();
        let money =
            levels.clone().fold([0; 3], |[paid, refunded, net], level| [paid + level.paid, refunded + level.refunded, net + level.net]);
        let (customers, orders) = (levels.clone().map(|level| level.customers).sum(), levels.map(|level| level.orders).sum());
        rows.push(row("all".to_owned(), customers, orders, money));
    }
    writeln!(out, "\nbelow")?;
    write_table(out, ["level", "customers", "orders", "paid", "refunded", "net"], &rows)
}

/// A row for the customer and one for each that is shown below. `first` stands before this customer, `rest` before what is below.
fn push_rows(node: &Node, first: &str, rest: &str, rows: &mut Vec<[String; 8]>) {
    rows.push([
        format!("{first}{}", plain(&node.customer_id)),
        node.level.to_string(),
        node.first_event_time.clone().unwrap_or_else(|| "never".to_owned()),
        node.orders.to_string(),
        node.net.to_string(),
        node.referred_direct.to_string(),
        node.referred_total.to_string(),
        node.subtree_net.to_string(),
    ]);
    let has_more = node.more_children > 0;
    for (place, child) in node.children.iter().enumerate() {
        let is_last = place + 1 == node.children.len() && !has_more;
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        push_rows(child, &format!("{rest}{branch}"), &format!("{rest}{below}"), rows);
    }
    if has_more {
        let more = match node.children.len() {
            0 => format!("{rest}└─ {} not shown", node.more_children),
            _ => format!("{rest}└─ and {} more", node.more_children),
        };
        let mut row = [const { String::new() }; 8];
        row[0] = more;
        rows.push(row);
    }
}

fn with_dim_branches(line: &str) -> String {
    let end = line.find(|letter| !matches!(letter, ' ' | '│' | '├' | '└' | '─')).unwrap_or(line.len());
    match line.split_at_checked(end) {
        Some((branches, rest)) if branches.contains('─') => format!("{DIM}{branches}{PLAIN}{rest}"),
        _ => line.to_owned(),
    }
}

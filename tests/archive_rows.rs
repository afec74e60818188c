//! The archive's rows are the accepted events, column by column.

mod oracle;
mod row_reader;

use onecode::model::{Body, Event, Line, Purchase, PurchaseKind, Role, Scan, ScanPurpose, Share, Via};
use onecode::rows::{ArchiveRows, RowBuffer, Table, archive};
use oracle::Value;
use row_reader::Reader;

fn event(body: Body<'static>, via: Option<Via<'static>>) -> Event<'static> {
    Event { event_id: "e1".into(), brand: "acme".into(), customer_id: "李".into(), time_ms: 1_768_000_000_123, via, body }
}

fn own_via() -> Option<Via<'static>> {
    Some(Via { share_id: "s1".into(), sharer_id: "李".into() })
}

fn rows_of(event: &Event<'_>, table: Table) -> RowBuffer {
    let mut rows = ArchiveRows::default();
    archive::push(event, &mut rows);
    assert_eq!(rows.rows(), 1);
    let (_, buffer) = rows.take(|_| Vec::new()).into_iter().find(|(name, _)| *name == table).expect("an archive table");
    assert_eq!(buffer.rows(), 1);
    buffer
}

/// Column names and values of the one row; types as in `row_reader`, `a`, `b` and `c` are arrays of `s`, `4` and `i`.
fn columns(table: Table, types: &str, buffer: &RowBuffer) -> Vec<(&'static str, Vec<Value>)> {
    assert_eq!(types.len(), table.columns().len());
    let bytes = buffer.row_binary();
    let mut reader = Reader(&bytes);
    let mut read = |column| match column {
        'a' => (0..reader.length()).map(|_| reader.value('s')).collect(),
        'b' => (0..reader.length()).map(|_| reader.value('4')).collect(),
        'c' => (0..reader.length()).map(|_| reader.value('i')).collect(),
        _ => vec![reader.value(column)],
    };
    let values = table.columns().iter().copied().zip(types.chars().map(&mut read)).collect();
    assert!(reader.0.is_empty(), "bytes after the row");
    values
}

fn text(value: &str) -> Vec<Value> {
    vec![Value::Text(value.to_owned())]
}

fn number(value: i128) -> Vec<Value> {
    vec![Value::Number(value)]
}

#[test]
fn a_scan_keeps_its_role_and_a_via_that_names_the_customer_itself() {
    let scan = Scan {
        code: "https://id.gs1.org/01/06901234567892/21/x".into(),
        gtin: "06901234567892".into(),
        serial: "x".into(),
        sku: "sku".into(),
        batch: "lot".into(),
        campaign: "spring".into(),
        region: 310_115,
        channel: "feed".into(),
        device: "d".into(),
        purpose: ScanPurpose::Follow,
        role: Role::Guide,
    };
    let row = columns(Table::Scans, "ssisssssssss4ssss", &rows_of(&event(Body::Scan(scan), own_via()), Table::Scans));
    let expected = [
        ("brand", text("acme")),
        ("code", text("https://id.gs1.org/01/06901234567892/21/x")),
        ("event_time", number(1_768_000_000_123)),
        ("event_id", text("e1")),
        ("customer_id", text("李")),
        ("share_id", text("s1")),
        ("sharer_id", text("李")),
        ("gtin", text("06901234567892")),
        ("serial", text("x")),
        ("sku", text("sku")),
        ("batch", text("lot")),
        ("campaign", text("spring")),
        ("region", number(310_115)),
        ("channel", text("feed")),
        ("device", text("d")),
        ("purpose", text("follow")),
        ("role", text("guide")),
    ];
    assert_eq!(row, expected);
}

#[test]
fn a_purchase_keeps_its_lines() {
    let line = |sku: &'static str, quantity, amount| Line { sku: sku.into(), quantity, amount };
    let purchase = Purchase {
        order_id: "o".into(),
        kind: PurchaseKind::Refund,
        amount: 10_000_000_000_000,
        currency: "CNY".into(),
        lines: vec![line("x", 1, 5), line("", u32::MAX, 0)],
        campaign: "spring".into(),
        region: 0,
        channel: "store".into(),
        store: "No. 7".into(),
    };
    let row = columns(Table::Purchases, "ssisssisabcsss4ss", &rows_of(&event(Body::Purchase(purchase), None), Table::Purchases));
    let expected = [
        ("brand", text("acme")),
        ("customer_id", text("李")),
        ("event_time", number(1_768_000_000_123)),
        ("event_id", text("e1")),
        ("order_id", text("o")),
        ("kind", text("refund")),
        ("amount", number(10_000_000_000_000)),
        ("currency", text("CNY")),
        ("lines.sku", [text("x"), text("")].concat()),
        ("lines.quantity", [number(1), number(u32::MAX.into())].concat()),
        ("lines.amount", [number(5), number(0)].concat()),
        ("share_id", text("")),
        ("sharer_id", text("")),
        ("campaign", text("spring")),
        ("region", number(0)),
        ("channel", text("store")),
        ("store", text("No. 7")),
    ];
    assert_eq!(row, expected);
}

#[test]
fn a_share_keeps_its_parent() {
    let share = Share {
        share_id: "s2".into(),
        campaign: "spring".into(),
        sku: "sku".into(),
        region: 440_300,
        channel: "moments".into(),
        rewarded: true,
    };
    let row = columns(Table::ShareEvents, "ssissssss4s1", &rows_of(&event(Body::Share(share), own_via()), Table::ShareEvents));
    let expected = [
        ("brand", text("acme")),
        ("customer_id", text("李")),
        ("event_time", number(1_768_000_000_123)),
        ("event_id", text("e1")),
        ("share_id", text("s2")),
        ("parent_share_id", text("s1")),
        ("parent_sharer_id", text("李")),
        ("campaign", text("spring")),
        ("sku", text("sku")),
        ("region", number(440_300)),
        ("channel", text("moments")),
        ("rewarded", number(1)),
    ];
    assert_eq!(row, expected);
}

//! Rows of the archive: every accepted event as it was sent.

use super::{RowBuffer, Table};
use crate::model::{Body, Event, Purchase, Scan, Share};

/// Rows of the archive tables, a buffer a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveRows {
    scans: RowBuffer,
    purchases: RowBuffer,
    share_events: RowBuffer,
}

impl ArchiveRows {
    /// Tables and their rows, in the order of [`Table::ALL`].
    pub fn tables(&self) -> [(Table, &RowBuffer); 3] {
        [(Table::Scans, &self.scans), (Table::Purchases, &self.purchases), (Table::ShareEvents, &self.share_events)]
    }

    /// Gives the tables that have rows away, and is empty afterwards. `spare` gives each of them pages for its next rows, used before or
    /// none.
    pub fn take(&mut self, mut spare: impl FnMut(Table) -> Vec<Vec<u8>>) -> Vec<(Table, RowBuffer)> {
        let ArchiveRows { scans, purchases, share_events } = self;
        let buffers = [(Table::Scans, scans), (Table::Purchases, purchases), (Table::ShareEvents, share_events)];
        buffers.into_iter().filter(|(_, rows)| !rows.is_empty()).map(|(table, rows)| (table, rows.take(spare(table)))).collect()
    }

    /// Number of rows in all tables.
    pub fn rows(&self) -> usize {
        self.tables().iter().map(|(_, rows)| rows.rows()).sum()
    }

    /// Bytes in all tables.
    pub fn bytes(&self) -> usize {
        self.tables().iter().map(|(_, rows)| rows.bytes()).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }
}

/// Adds the row of an event, whoever did it.
pub fn push(event: &Event<'_>, out: &mut ArchiveRows) {
    match &event.body {
        Body::Scan(scan) => push_scan(event, scan, &mut out.scans),
        Body::Purchase(purchase) => push_purchase(event, purchase, &mut out.purchases),
        Body::Share(share) => push_share(event, share, &mut out.share_events),
    }
}

/// The via as sent: share and sharer, or two empty texts.
fn via<'a>(event: &'a Event<'_>) -> (&'a str, &'a str) {
    event.via.as_ref().map_or(("", ""), |known| (&known.share_id, &known.sharer_id))
}

fn push_scan(event: &Event<'_>, scan: &Scan<'_>, rows: &mut RowBuffer) {
    let (share_id, sharer_id) = via(event);
    rows.push(|out| {
        out.string(&event.brand).string(&scan.code).i64(event.time_ms).string(&event.event_id).string(&event.customer_id);
        out.string(share_id).string(sharer_id).string(&scan.gtin).string(&scan.serial).string(&scan.sku).string(&scan.batch);
        out.string(&scan.campaign).u32(scan.region).string(&scan.channel).string(&scan.device);
        out.string(scan.purpose.name()).string(scan.role.name());
    });
}

fn push_purchase(event: &Event<'_>, purchase: &Purchase<'_>, rows: &mut RowBuffer) {
    let (share_id, sharer_id) = via(event);
    rows.push(|out| {
        out.string(&event.brand).string(&event.customer_id).i64(event.time_ms).string(&event.event_id).string(&purchase.order_id);
        out.string(purchase.kind.name()).amount(purchase.amount).string(&purchase.currency);
        out.array(purchase.lines.iter(), |out, line| {
            out.string(&line.sku);
        });
        out.array(purchase.lines.iter(), |out, line| {
            out.u32(line.quantity);
        });
        out.array(purchase.lines.iter(), |out, line| {
            out.i64(line.amount);
        });
        out.string(share_id).string(sharer_id).string(&purchase.campaign).u32(purchase.region).string(&purchase.channel);
        out.string(&purchase.store);
    });
}

fn push_share(event: &Event<'_>, share: &Share<'_>, rows: &mut RowBuffer) {
    let (parent_share_id, parent_sharer_id) = via(event);
    rows.push(|out| {
        out.string(&event.brand).string(&event.customer_id).i64(event.time_ms).string(&event.event_id).string(&share.share_id);
        out.string(parent_share_id).string(parent_sharer_id).string(&share.campaign).string(&share.sku).u32(share.region);
        out.string(&share.channel).u8(u8::from(share.rewarded));
    });
}

//! Connections put into words for the control plane, a page at a time.

use std::net::SocketAddr;

use super::conn::key::Side;
use super::conn::record::Record;
use super::conn::table::Slot;
use super::flows::Flows;
use super::orders::{ConnectionView, Page};
use super::snapshot::Protocol;

impl Flows {
    /// Fills a page from its cursor on: as many rows as it has room for, from no more than
    /// [`Page::SLOTS_MAX`] slots.
    pub fn describe(&self, page: &mut Page) {
        let end = self.table.used().min(page.cursor.saturating_add(Page::SLOTS_MAX));
        while page.cursor < end && page.rows.len() < page.rows.capacity() {
            let record = self.table.record(Slot(page.cursor));
            if record.is_live() {
                page.rows.push(self.view(record));
            }
            page.cursor += 1;
        }
        page.done = page.cursor >= self.table.used();
    }

    fn view(&self, record: &Record) -> ConnectionView {
        let client = record.key(Side::Client);
        let backend = record.key(Side::Backend);
        let is_tcp = record.protocol() == Protocol::Tcp as u8;
        ConnectionView {
            worker: self.ownership.me(),
            protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
            state: record.state(),
            client: SocketAddr::from((client.source(), client.source_port())),
            vip: SocketAddr::from((client.destination(), client.destination_port())),
            local: SocketAddr::from((backend.destination(), backend.destination_port())),
            backend: SocketAddr::from((backend.source(), backend.source_port())),
            service_id: record.service_id(),
            backend_id: record.backend_id(),
            idle_ms: self.now_ms.wrapping_sub(record.seen_ms),
            expires_ms: self.expires_ms(record),
        }
    }
}

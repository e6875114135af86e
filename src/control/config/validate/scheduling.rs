//! How a service chooses its backends: its scheduler and flags, limits and server ids of backends.
//!
//! Which schedulers and flags there are is the schedulers' own list's business.

use std::collections::HashSet;

use super::super::error::Problems;
use super::super::plan::Backend;
use super::super::schema::{self, Spanned};
use super::value::{choice, integer};
use crate::dataplane::sched::{Flag, Flags, Scheduler, ServerId, Slots};
use crate::dataplane::snapshot::{Limit, Protocol};

/// The scheduler.
pub(super) fn scheduler(
    problems: &mut Problems,
    written: &schema::Service,
    spoken: &[Protocol],
) -> Scheduler {
    let names = Scheduler::ALL.iter().map(|scheduler| (scheduler.method().name, *scheduler));
    let names: Vec<_> = names.collect();
    let value = written.scheduler.as_ref();
    let scheduler = choice(problems, "scheduler", value, &names, Scheduler::WRR);
    let is_quic = scheduler.method().needs_server_ids;
    let has_none = !spoken.is_empty() && !spoken.contains(&Protocol::Udp);
    if let (Some(value), true) = (value, is_quic && has_none) {
        let message = format!("scheduler `{scheduler}` is for udp: it looks into QUIC packets");
        problems.error(value.span(), message);
    }
    scheduler
}

/// The scheduler's flags.
pub(super) fn flags(
    problems: &mut Problems,
    written: &schema::Service,
    scheduler: Scheduler,
) -> Flags {
    let known: &[(&str, Flag)] = scheduler.method().flags;
    let slots = slots(problems, written, scheduler);
    let mut flags = Flags { slots, ..Flags::default() };
    for value in written.scheduler_flags.iter().flat_map(Spanned::get_ref) {
        if known.is_empty() {
            let message = format!("scheduler `{scheduler}` has no flags");
            problems.error(value.span(), message);
        } else if let Some(flag) =
            choice(problems, "scheduler_flags", Some(value), &some(known), None)
        {
            flags = flags.with(flag);
        }
    }
    flags
}

/// The size of the scheduler's table.
fn slots(problems: &mut Problems, written: &schema::Service, scheduler: Scheduler) -> Slots {
    let Some(value) = &written.mh_slots else { return Slots::default() };
    let count = *value.get_ref();
    if !scheduler.method().has_table && count != i64::from(Slots::default().count()) {
        let message = format!("mh_slots is of no use to scheduler `{scheduler}`: it has no table");
        problems.error(value.span(), message);
    }
    u32::try_from(count).ok().and_then(Slots::new).unwrap_or_else(|| {
        let known = Slots::ALL.map(|slots| slots.to_string()).join(", ");
        problems.error(value.span(), format!("mh_slots {count} is not one of {known}"));
        Slots::default()
    })
}

fn some<'a>(known: &[(&'a str, Flag)]) -> Vec<(&'a str, Option<Flag>)> {
    known.iter().map(|(name, flag)| (*name, Some(*flag))).collect()
}

/// When a backend has had enough.
pub(super) fn limit(problems: &mut Problems, written: &schema::Backend) -> Limit {
    let range = 0..=i64::from(u32::MAX);
    let most = written.max_connections.as_ref();
    let least = written.resume_below.as_ref();
    let limit = Limit {
        most: integer(problems, "max_connections", most, range.clone(), 0),
        least: integer(problems, "resume_below", least, range, 0),
    };
    if let Some(value) = least.filter(|_| limit.least > limit.most) {
        let message = format!(
            "resume_below {} is above max_connections {}: it would never be full",
            limit.least, limit.most
        );
        problems.error_help(value.span(), message, "at most max_connections, or 0");
    }
    limit
}

/// What a backend writes into QUIC connection ids.
pub(super) fn server_id(problems: &mut Problems, written: &schema::Backend) -> Option<ServerId> {
    let value = written.quic_server_id.as_ref()?;
    let text = value.get_ref();
    text.parse()
        .inspect_err(|error| {
            let message = format!("quic_server_id `{text}` is not one: {error}");
            problems.error_help(value.span(), message, "for example \"0a01\"");
        })
        .ok()
}

/// With a scheduler that goes by them every backend needs one, all different and of one length;
/// with another they say nothing.
pub(super) fn refuse_server_ids(
    problems: &mut Problems,
    written: &schema::Service,
    scheduler: Scheduler,
    backends: &[Backend],
) {
    let wanted = scheduler.method().needs_server_ids;
    for backend in &written.backend {
        let address = &backend.address;
        match &backend.quic_server_id {
            None if wanted => {
                let message = format!(
                    "backend {} has no quic_server_id, which scheduler `{scheduler}` goes by",
                    address.get_ref()
                );
                problems.error(address.span(), message);
            }
            Some(value) if !wanted => {
                let message = format!("quic_server_id is of no use to scheduler `{scheduler}`");
                problems.error_help(value.span(), message, "scheduler = \"qh\" goes by it");
            }
            _ => {}
        }
    }
    let ids = || backends.iter().filter_map(|backend| backend.quic_server_id);
    let lengths: HashSet<usize> = ids().map(ServerId::length).collect();
    let mut seen = HashSet::new();
    for value in written.backend.iter().filter_map(|backend| backend.quic_server_id.as_ref()) {
        let text = value.get_ref();
        if text.parse::<ServerId>().is_ok_and(|id| !seen.insert(id)) {
            problems.error(value.span(), format!("quic_server_id {text} is another backend's too"));
        } else if lengths.len() > 1 {
            let message = format!("quic_server_id {text} is not as long as the others");
            problems.error(value.span(), message);
            return;
        }
    }
}

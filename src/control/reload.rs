//! A reload: everything the file says, or nothing.
//!
//! ```text
//! read ─► compare ─► [TAPs get new addresses] ─► next hops of new backends ─► publish ─► every worker has it: old addresses go
//!   │        └─ nothing, or needs a restart: end        (waits a second at most)
//!   └─ wrong: end
//! ```
//!
//! Until `publish` nothing a connection could notice has happened. New backends are resolved
//! before they get their first connection.

use std::collections::HashSet;
use std::time::Instant;

use super::admin::view::{LastReload, Reload, ReloadResult};
use super::config::plan::Plan;
use super::parts::{Changes, Configure};
use super::runtime::{Control, reached};
use super::supervise::Ending;
use super::words::count;
use crate::stats::slow::unix_now_s;

impl<C: Configure> Control<C> {
    /// Reads the file again and applies it. The outcome is logged, counted and remembered.
    pub(super) async fn reload(&mut self) -> Reload {
        self.systemd.reloading();
        let outcome = self.attempt().await;
        self.keep_taps().await;
        self.log(&outcome);
        let at_s = unix_now_s();
        self.sources.slow.reloads.note(outcome.result, at_s);
        let (result, message) = (outcome.result, outcome.message.clone());
        self.last_reload = Some(LastReload { at_s, result, message });
        self.systemd.ready(&self.summary());
        outcome
    }

    async fn attempt(&mut self) -> Reload {
        if self.ending != Ending::Serving {
            return refused("the daemon is ending; nothing was changed".into(), Changes::default());
        }
        let plan = match self.configure.load(&self.file) {
            Ok(plan) => plan,
            Err(message) => {
                return Reload { result: ReloadResult::Invalid, message, changes: Vec::new() };
            }
        };
        let changes = self.configure.diff(&self.plan, &plan);
        if changes.lines.is_empty() {
            let message = "nothing differs".into();
            return Reload { result: ReloadResult::Unchanged, message, changes: Vec::new() };
        }
        if !changes.restart.is_empty() {
            let what = changes.restart.join(", ");
            return refused(format!("needs a restart: {what}; nothing was changed"), changes);
        }
        self.apply(plan, changes).await
    }

    async fn apply(&mut self, plan: Plan, changes: Changes) -> Reload {
        let members = if plan.lists == self.plan.lists {
            self.members.clone()
        } else {
            match self.members_of(&plan.lists).await {
                Ok(members) => members,
                Err(message) => return refused(format!("{message}; nothing was changed"), changes),
            }
        };
        let new = reached(&plan);
        let old: HashSet<_> = reached(&self.plan).into_iter().collect();
        // Only those that are new: one that has long been dead shall not delay every reload.
        let fresh: Vec<_> = new.iter().copied().filter(|address| !old.contains(address)).collect();
        self.slow_path.neighbors.want(old.into_iter().chain(new.iter().copied()).collect());
        self.await_next_hops(&fresh).await;
        let add = self.new_addresses(&plan);
        self.add_addresses(add).await;
        let old = std::mem::replace(&mut self.plan, plan);
        let members = std::mem::replace(&mut self.members, members);
        if let Err(message) = self.publish() {
            self.members = members;
            self.take_back(old).await;
            return refused(format!("{message}; nothing was changed"), changes);
        }
        // What goes stays until every worker has this snapshot: housekeeping takes it off.
        self.addresses.published(self.snapshot.generation, Instant::now());
        self.slow_path.neighbors.want(new);
        let (services, generation) = (self.plan.services.len(), self.snapshot.generation);
        let message = format!(
            "{} applied; generation {generation}, {}",
            count(changes.lines.len(), "change"),
            count(services, "service"),
        );
        Reload { result: ReloadResult::Applied, message, changes: changes.lines }
    }

    /// The new plan cannot be compiled: what was prepared for it goes again.
    async fn take_back(&mut self, old: Plan) {
        let add = self.new_addresses(&old);
        self.add_addresses(add).await;
        self.addresses.published(self.snapshot.generation, Instant::now());
        self.slow_path.neighbors.want(reached(&old));
        self.plan = old;
    }

    fn log(&self, outcome: &Reload) {
        let file = self.file.display();
        match outcome.result {
            ReloadResult::Applied | ReloadResult::Unchanged => {
                tracing::info!(%file, "reload: {}", outcome.message);
            }
            ReloadResult::Refused | ReloadResult::Invalid => {
                tracing::error!(%file, "reload: {}", outcome.message);
            }
        }
        for change in &outcome.changes {
            tracing::info!("reload: {change}");
        }
    }
}

fn refused(message: String, changes: Changes) -> Reload {
    Reload { result: ReloadResult::Refused, message, changes: changes.lines }
}

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
use super::voice::say_first;
use super::words::count;
use crate::stats::slow::unix_now_s;

impl<C: Configure> Control<C> {
    /// Reads the file again and applies it. The outcome is logged, counted and remembered.
    pub(super) async fn reload(&mut self) -> Reload {
        self.systemd.reloading();
        let mut outcome = self.attempt().await;
        self.mention_hands(&mut outcome);
        self.keep_taps().await;
        self.log(&outcome);
        self.tell_reload(&outcome);
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
        let file = match self.configure.load(&self.file) {
            Ok(file) => file,
            Err(message) => return ended(ReloadResult::Invalid, message),
        };
        let changes = self.configure.diff(&self.plan, &file.plan);
        if changes.lines.is_empty() {
            self.edition.reloaded(file, false);
            self.note_drift();
            return ended(ReloadResult::Unchanged, "nothing differs".into());
        }
        if !changes.restart.is_empty() {
            let what = changes.restart.join(", ");
            return refused(format!("needs a restart: {what}; nothing was changed"), changes);
        }
        let undone = self.undone(&file.plan);
        let mut outcome = self.apply(file.plan.clone(), changes).await;
        if outcome.result == ReloadResult::Applied {
            self.edition.reloaded(file, true);
            self.note_drift();
            if !undone.is_empty() {
                let many = count(undone.len(), "change");
                outcome.message = format!("{}; {many} made at runtime undone", outcome.message);
            }
            outcome.undone = undone;
        }
        outcome
    }

    /// Changes made at runtime that the file, as it is now, does not make.
    fn undone(&self, file: &Plan) -> Vec<String> {
        let missed: HashSet<String> =
            self.configure.diff(file, &self.plan).lines.into_iter().collect();
        self.drift().changes.into_iter().filter(|change| missed.contains(change)).collect()
    }

    /// Puts a plan to use, or changes nothing.
    pub(super) async fn apply(&mut self, plan: Plan, changes: Changes) -> Reload {
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
        self.hands.follow(&self.plan);
        self.change_lock();
        self.note_hands();
        // What goes stays until every worker has this snapshot: housekeeping takes it off.
        self.addresses.published(self.snapshot.generation, Instant::now());
        self.slow_path.neighbors.want(new);
        let (services, generation) = (self.plan.services.len(), self.snapshot.generation);
        let message = format!(
            "{} applied; generation {generation}, {}",
            count(changes.lines.len(), "change"),
            count(services, "service"),
        );
        Reload { changes: changes.lines, ..ended(ReloadResult::Applied, message) }
    }

    /// Who comes from elsewhere is asked for what this plan says.
    fn change_lock(&self) {
        if let (Some(keys), Some(remote)) = (&self.keys, &self.plan.remote)
            && let Err(error) = keys.change(&remote.credentials)
        {
            tracing::error!(%error, "the admin API keeps its certificate and token");
        }
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
        let (file, said) = (self.file.display(), outcome.message.as_str());
        match outcome.result {
            ReloadResult::Applied => tracing::info!(%file, said, "reload: applied"),
            ReloadResult::Unchanged => tracing::info!(%file, said, "reload: unchanged"),
            ReloadResult::Refused => tracing::error!(%file, said, "reload: refused"),
            ReloadResult::Invalid => {
                tracing::error!(%file, "reload: the file is wrong");
                // A line each, as `shuntd check` has them.
                let more = say_first(said.lines(), |line| tracing::error!(%line, "reload: wrong"));
                note_kept(more);
            }
        }
        note_kept(say_first(&outcome.changes, |change| tracing::info!(change, "reload: changed")));
        let undone = |change| tracing::warn!(change, "reload: undone, as the file does not say so");
        note_kept(say_first(&outcome.undone, undone));
    }
}

/// Whoever asks for a reload gets all of its lines.
fn note_kept(kept: Option<usize>) {
    if let Some(kept) = kept {
        tracing::info!(kept, "reload: more lines were not logged; `shunt reload` prints all");
    }
}

fn refused(message: String, changes: Changes) -> Reload {
    Reload { changes: changes.lines, ..ended(ReloadResult::Refused, message) }
}

fn ended(result: ReloadResult, message: String) -> Reload {
    Reload { result, message, changes: Vec::new(), undone: Vec::new() }
}

//! What the operator's hand asks of the running configuration: edits, what has drifted, and saving it.
//!
//! An edit takes the way of a reload (`control::reload`), from the comparison on: next hops of new backends first,
//! addresses on the TAPs, publish. Either all of a request is in use when it is answered, or nothing has changed.

use std::time::Instant;

use super::admin::answers::events::What;
use super::admin::view::{
    Drift, EditFailure, EditKind, Edited, Included, OnDisk, ReloadResult, Running, Saved, Zeroed,
};
use super::config::place;
use super::config::plan::Plan;
use super::edit::{EDITS_MAX, Edit, EditError, Which};
use super::edition::Written;
use super::figures::Counts;
use super::parts::Configure;
use super::runtime::Control;
use super::save::{SaveError, write};
use super::supervise::Ending;
use super::voice::say_first;
use crate::dataplane::snapshot::Timeouts;
use crate::ids::{BackendId, ServiceId};
use crate::stats::collect::{Activity, Directory, Sources};

impl<C: Configure> Control<C> {
    /// Makes all of these edits, or none.
    pub(super) async fn edit(
        &mut self,
        edits: &[Edit],
        expected: Option<u64>,
    ) -> Result<Edited, EditFailure> {
        let outcome = self.try_edit(edits, expected).await;
        let service = edits.first().map(service_of).unwrap_or_default();
        if self.voice.may_say(&service, Instant::now()) {
            log(&outcome);
        }
        let counted = usize::from(outcome.is_err());
        self.sources.slow.edits[counted].add(1);
        outcome
    }

    async fn try_edit(
        &mut self,
        edits: &[Edit],
        expected: Option<u64>,
    ) -> Result<Edited, EditFailure> {
        let version = self.edition.version;
        if let Some(expected) = expected.filter(|expected| *expected != version) {
            let error = format!(
                "the configuration is at version {version} and not {expected}: somebody else has changed it"
            );
            return Err(EditFailure { error, kind: EditKind::Stale });
        }
        if self.ending != Ending::Serving {
            return Err(refused("the daemon is ending; nothing was changed".into()));
        }
        if edits.len() > EDITS_MAX {
            return Err(refused(format!("at most {EDITS_MAX} edits in one request")));
        }
        let Written { plan, files } =
            self.configure.edit(&self.edition.files, &self.plan, edits)?;
        let changes = self.configure.diff(&self.plan, &plan);
        if !changes.restart.is_empty() {
            let what = changes.restart.join(", ");
            return Err(refused(format!("needs a restart: {what}; nothing was changed")));
        }
        let lines = changes.lines.clone();
        if lines.is_empty() {
            self.edition.files = files;
            return Ok(Edited { version, changes: lines });
        }
        let applied = self.apply(plan, changes).await;
        self.keep_taps().await;
        if applied.result != ReloadResult::Applied {
            return Err(refused(applied.message));
        }
        self.edition.edited(files);
        let edited = Edited { version: self.edition.version, changes: lines };
        self.tell_edit(&edited);
        self.note_drift();
        Ok(edited)
    }

    /// How what runs differs from the file.
    pub(super) fn drift(&self) -> Drift {
        let changes = self.configure.diff(&self.edition.loaded.plan, &self.plan).lines;
        let (version, file) = (self.edition.version, self.file.display().to_string());
        Drift { version, file, changes, by_hand: self.all_by_hand(), on_disk: None }
    }

    /// Reads what the files say by now. Nothing of it is kept.
    pub(super) fn on_disk(&self) -> OnDisk {
        let lines = |old: &Plan, new: &Plan| self.configure.diff(old, new).lines;
        let (unread, unusable) = match self.configure.look(&self.file) {
            Ok(now) => (lines(&self.edition.loaded.plan, &now.plan), None),
            Err(message) => (Vec::new(), Some(message)),
        };
        // The text that runs, as it is, with what the files that it names hold now.
        let again = self.configure.edit(&self.edition.files, &self.plan, &[]);
        let named = again.map_or_else(|_| Vec::new(), |now| lines(&self.plan, &now.plan));
        OnDisk { unread, named, unusable }
    }

    /// The metric is what `shunt diff` prints, in lines.
    pub(super) fn note_drift(&mut self) {
        let differences = self.drift().changes.len() as u64;
        self.sources.slow.drift.set(differences);
        self.notice_drift(differences);
    }

    /// The text that runs.
    pub(super) fn running(&self) -> Running {
        let timeouts = &self.plan.timeouts;
        let named =
            Timeouts::KEYS.iter().filter_map(|key| Some(((*key).to_owned(), timeouts.named(key)?)));
        Running {
            version: self.edition.version,
            file: self.file.display().to_string(),
            text: self.edition.files.text.clone(),
            included: self.edition.files.included.iter().map(Included::from).collect(),
            timeouts: named.collect(),
        }
    }

    /// Writes what runs to the file. `force`: even if somebody has changed it since it was read.
    pub(super) fn save(&mut self, force: bool) -> Result<Saved, SaveError> {
        let changes = self.drift().changes;
        // What is included is never edited here, so it is left as it is.
        let known = (!force).then_some(self.edition.loaded.files.text.as_str());
        write(&self.file, &self.edition.files.text, known)?;
        self.edition.saved(self.plan.clone());
        let file = self.file.display().to_string();
        self.bulletin.tell(What::Saved { file: file.clone() });
        self.note_drift();
        tracing::info!(%file, changes = changes.len(), "saved");
        Ok(Saved { file, changes })
    }
}

/// A request has been answered; the answer has all of it.
fn log(outcome: &Result<Edited, EditFailure>) {
    match outcome {
        Ok(Edited { version, changes }) => {
            let said = |change| tracing::info!(version, change, "edit: changed");
            if let Some(kept) = say_first(changes, said) {
                tracing::info!(version, kept, "edit: more changes were not logged");
            }
        }
        Err(EditFailure { error, .. }) => tracing::warn!(error, "edit: refused"),
    }
}

/// Whom an edit is about, in the words of the request; nothing if it is about no one service.
fn service_of(edit: &Edit) -> String {
    match edit {
        Edit::PutService { service, .. } => service.clone(),
        Edit::EditService { service, .. }
        | Edit::DeleteService { service }
        | Edit::AddBackend { service, .. }
        | Edit::EditBackend { service, .. }
        | Edit::PutBackend { service, .. }
        | Edit::DeleteBackend { service, .. }
        | Edit::AddLocalAddress { service, .. }
        | Edit::DeleteLocalAddress { service, .. } => service.to_string(),
        Edit::AddService { .. } | Edit::DeleteServices | Edit::SetTimeouts { .. } => String::new(),
    }
}

/// Figures of lists.
impl<C: Configure> Control<C> {
    /// Brings the rates up to date.
    pub(super) fn sample(&mut self) {
        let (sources, directory) = (&self.sources, self.sources.directory());
        let services = directory.names.services.iter().map(|it| it.id);
        let services = services.map(|id| (id, service_counts(sources, &directory, id)));
        self.figures.services.sample(services);
        let backends = directory.names.backends.iter().map(|it| it.id);
        let backends = backends.map(|id| (id, backend_counts(sources, &directory, id)));
        self.figures.backends.sample(backends);
    }

    /// Counting begins anew, of one service or of all.
    pub(super) fn zero(&mut self, which: Option<&Which>) -> Result<Zeroed, EditFailure> {
        let (sources, directory) = (&self.sources, self.sources.directory());
        let mut services = 0;
        for entry in directory.names.services.iter().filter(|entry| !entry.removed) {
            let is_meant = |which: &Which| match which {
                Which::Name(name) => entry.name == *name,
                Which::Place { protocol, address } => {
                    place(protocol, address) == Some((entry.protocol, entry.address))
                }
            };
            if which.is_some_and(|which| !is_meant(which)) {
                continue;
            }
            services += 1;
            let now = service_counts(sources, &directory, entry.id);
            self.figures.services.zero(entry.id, now);
            for backend in directory.all_backends_of(entry.id) {
                let now = backend_counts(sources, &directory, backend.id);
                self.figures.backends.zero(backend.id, now);
            }
        }
        match which {
            Some(which) if services == 0 => Err(EditError::NoService(which.to_string()).into()),
            _ => Ok(Zeroed { services }),
        }
    }
}

fn service_counts(sources: &Sources, directory: &Directory, id: ServiceId) -> Counts {
    let connections = sources.service(directory, id).new_connections;
    Counts { connections, volumes: sources.service_volumes(directory, id) }
}

fn backend_counts(sources: &Sources, directory: &Directory, id: BackendId) -> Counts {
    let Activity { new_connections: connections, volumes, .. } = sources.backend(directory, id);
    Counts { connections, volumes }
}

fn refused(error: String) -> EditFailure {
    EditFailure { error, kind: EditKind::Refused }
}

impl From<EditError> for EditFailure {
    fn from(error: EditError) -> Self {
        let kind = match &error {
            EditError::NoService(_) => EditKind::NoService,
            EditError::ServiceExists(_) => EditKind::ServiceExists,
            EditError::NoBackend { .. } => EditKind::NoBackend,
            EditError::BackendExists { .. } => EditKind::BackendExists,
            EditError::Ambiguous(_) | EditError::Unwritable(_) | EditError::Included { .. } => {
                EditKind::Refused
            }
            EditError::BadPlace(_) | EditError::Invalid(_) => EditKind::Invalid,
        };
        Self { error: error.to_string(), kind }
    }
}

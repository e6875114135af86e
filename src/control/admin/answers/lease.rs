//! Something of which there is one at a time, and both ends of whose turn it is: the control loop's and the reader's.
//!
//! ```text
//!   Place ◄──── is the reader there? ──── Tenant
//!     └───────── has it been freed? ────────►
//! ```
//!
//! A reader that is cut off is missed when its [`Tenant`] is dropped. One that comes to its end says so, and waits until
//! the [`Place`] is free before it writes the last of its answer: who has read an answer to its end may ask for the next at
//! once, and is not told that somebody else has the place.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a reader waits at most; the control loop looks every tenth of a second.
const PATIENCE: Duration = Duration::from_secs(1);

/// The control loop's end. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    tenant: Weak<()>,
    #[expect(dead_code, reason = "dropping it is what it is for")]
    freed: oneshot::Sender<()>,
}

/// The reader's end.
#[derive(Debug)]
pub(super) struct Tenant {
    here: Option<Arc<()>>,
    freed: oneshot::Receiver<()>,
}

/// Both ends.
pub(super) fn lease() -> (Place, Tenant) {
    let (here, (drops, freed)) = (Arc::new(()), oneshot::channel());
    (Place { tenant: Arc::downgrade(&here), freed: drops }, Tenant { here: Some(here), freed })
}

impl Place {
    /// Has the reader gone?
    pub(super) fn is_left(&self) -> bool {
        self.tenant.strong_count() == 0
    }
}

impl Tenant {
    /// The reader has what it came for. Returns when the place is free, or after a while.
    pub(super) async fn leave(&mut self) {
        if self.here.take().is_some() {
            let _ = tokio::time::timeout(PATIENCE, &mut self.freed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_leaves_waits_until_the_place_is_free() {
        let (place, mut tenant) = lease();
        assert!(!place.is_left());
        let leaving = tokio::spawn(async move {
            tenant.leave().await;
            tenant.leave().await;
        });
        while !place.is_left() {
            tokio::task::yield_now().await;
        }
        assert!(!leaving.is_finished());
        drop(place);
        leaving.await.unwrap();
    }

    #[test]
    fn who_is_cut_off_is_missed() {
        let (place, tenant) = lease();
        drop(tenant);
        assert!(place.is_left());
    }
}

//! Which objects changed since somebody last looked: each once, however often it did.

use super::kind::Kind;
use super::object::Key;
use parking_lot::Mutex;
use std::collections::HashSet;
use tokio::sync::Notify;

/// Written by the watches that one provider listens to, read by it. It holds no more than there are objects.
#[derive(Debug, Default)]
pub(super) struct Changes {
    changed: Mutex<HashSet<(Kind, Key)>>,
    /// Nobody asks which objects changed, so nobody would take them out again.
    without_names: bool,
    notify: Notify,
}

impl Changes {
    /// For who wants to know that something changed, and not what.
    pub(super) fn without_names() -> Self {
        Self {
            without_names: true,
            ..Self::default()
        }
    }

    /// An object came, changed or went.
    pub(super) fn note(&self, kind: Kind, key: Key) {
        if !self.without_names {
            self.changed.lock().insert((kind, key));
        }
        self.notify.notify_one();
    }

    /// Something else is worth a look: a watch knows all of its objects now.
    pub(super) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Waits until there is something to look at.
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Takes what changed.
    pub(super) fn take(&self) -> HashSet<(Kind, Key)> {
        std::mem::take(&mut *self.changed.lock())
    }
}

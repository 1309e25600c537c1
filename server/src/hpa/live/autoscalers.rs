//! What the API has of the cluster's autoscalers.

use super::board::{Board, Options};
use super::look::Look;
use crate::hpa::Hpa;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// Looks once at an autoscaler that need not be in the cluster: at the scale, the pods and the metrics that it names.
pub trait LookOnce: Send + Sync {
    /// One look, as the first that a controller takes.
    fn look_once(&self, hpa: Hpa) -> BoxFuture<'_, Look>;
}

/// What the API has of the cluster's autoscalers.
#[derive(Clone)]
pub struct Autoscalers {
    /// Those that are watched.
    pub board: Arc<Board>,
    /// Looks at others; `None` where there is no cluster.
    pub once: Option<Arc<dyn LookOnce>>,
}

impl Default for Autoscalers {
    /// Without a cluster.
    fn default() -> Self {
        let board = Board::new(Options::default());
        board.set_problems(vec![
            "no cluster is watched: --kubernetes, --kubernetes.kubeconfig or --kubernetes.api.listen-address give access to one, \
             and --kubernetes.hpa-sync-period=0 would switch this off"
                .to_owned(),
        ]);
        Self {
            board: Arc::new(board),
            once: None,
        }
    }
}

impl fmt::Debug for Autoscalers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Autoscalers")
            .field("autoscalers", &self.board.len())
            .field("once", &self.once.is_some())
            .finish()
    }
}

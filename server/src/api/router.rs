//! Which path goes to which handler.

use super::state::ApiState;
use std::sync::Arc;

/// All routes, below the path of the external URL, with the edge's layers around them.
pub fn router(state: Arc<ApiState>) -> axum::Router {
    axum::Router::new().with_state(state)
}

//! Why a queue did not do it.

use std::sync::Arc;

use crate::store::{OpRefused, StoreError};

/// Why a queue did not do it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The request makes no sense in the state things are in.
    #[error("{0}")]
    Refused(OpRefused),
    /// The system gave a worker no thread.
    #[error("cannot begin a worker: {0}")]
    Worker(Arc<std::io::Error>),
    /// The store could not do it. Shared, because threads share commits.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

impl From<StoreError> for QueueError {
    fn from(error: StoreError) -> QueueError {
        QueueError::Store(Arc::new(error))
    }
}

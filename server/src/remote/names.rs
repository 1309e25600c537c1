//! The labels of a message, told in each series or by reference to symbols.

use super::content::ProtoMessage;
use super::known::{Key, key};
use super::labels::{self, Pair};
use super::symbols::Symbols;
use super::wire::{WireError, label_pairs};

/// How a message tells labels.
#[derive(Debug)]
pub(super) enum Names<'b> {
    /// In each series.
    InPlace,
    /// By reference.
    Symbols(Symbols<'b>),
}

impl<'b> Names<'b> {
    pub(super) fn version(&self) -> ProtoMessage {
        match self {
            Self::InPlace => ProtoMessage::V1,
            Self::Symbols(_) => ProtoMessage::V2,
        }
    }

    /// The key of label fields; `None` if they are none.
    pub(super) fn key(&self, labels: &[u8]) -> Result<Option<Key>, WireError> {
        match self {
            Self::InPlace => Ok(Some(key(labels))),
            Self::Symbols(symbols) => Ok(symbols.identity(labels)?.map(|identity| identity.key)),
        }
    }

    /// The pairs of label fields, of a series or of an exemplar.
    pub(super) fn pairs<'a>(&self, labels: &'a [u8]) -> Result<Result<Vec<Pair<'a>>, String>, WireError>
    where
        'b: 'a,
    {
        match self {
            Self::InPlace => label_pairs(labels),
            Self::Symbols(symbols) => symbols.pairs(labels),
        }
    }

    /// A label set for people.
    pub(super) fn shown(&self, labels: &[u8]) -> String {
        match self.pairs(labels) {
            Ok(Ok(pairs)) => labels::shown(&pairs),
            _ => "{}".to_owned(),
        }
    }
}

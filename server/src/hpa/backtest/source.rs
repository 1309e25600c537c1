//! Where history comes from: the one door through which a rehearsal sees it.

use std::time::Instant;
use tidegauge_model::{Cancel, Queryable, Timestamp};
use tidegauge_query::{Engine, ParseError, ParseOptions, Query, QueryError, Value};

/// Times at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The first.
    pub start: Timestamp,
    /// Between two.
    pub step_ms: i64,
    /// How many; at least one.
    pub count: usize,
}

impl Steps {
    /// The time of a step.
    pub fn at(&self, no: usize) -> Timestamp {
        let after = i64::try_from(no).unwrap_or(i64::MAX).saturating_mul(self.step_ms);
        self.start.saturating_add(after)
    }

    /// The last.
    pub fn end(&self) -> Timestamp {
        self.at(self.count.saturating_sub(1))
    }

    /// Puts samples at their places; NaN where there is none.
    pub fn place(&self, samples: impl IntoIterator<Item = (Timestamp, f64)>, into: &mut Vec<f64>) {
        into.resize(self.count, f64::NAN);
        for (at, value) in samples {
            let after = at.millis().saturating_sub(self.start.millis());
            let place = usize::try_from(after / self.step_ms)
                .ok()
                .filter(|_| after % self.step_ms == 0);
            if let Some(place) = place.and_then(|place| into.get_mut(place)) {
                *place = value;
            }
        }
    }
}

/// Answers what an expression was over time.
pub trait Source {
    /// The values of an expression that gives one series at most: one for each step, NaN where there is none.
    ///
    /// # Errors
    /// [`SourceError`]; several series are an error, not a choice.
    fn column(&self, query: &str, steps: Steps) -> Result<Vec<f64>, SourceError>;

    /// Fails once the answer is no longer waited for.
    ///
    /// # Errors
    /// [`SourceError`] says why.
    fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Why an expression has no values.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is none.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A server's answer.
    #[error("{0}")]
    Server(String),
    /// There is more than one.
    #[error("it gives {0} series and should give one: put sum() around it, or name more labels")]
    Several(usize),
}

/// The engine over a store.
#[derive(Clone)]
pub struct EngineSource<'a> {
    /// Evaluates.
    pub engine: &'a Engine,
    /// What is read.
    pub store: &'a dyn Queryable,
    /// Raised when nobody waits any more.
    pub cancel: Cancel,
    /// When it takes too long.
    pub deadline: Option<Instant>,
}

impl std::fmt::Debug for EngineSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineSource").finish_non_exhaustive()
    }
}

impl Source for EngineSource<'_> {
    fn column(&self, query: &str, steps: Steps) -> Result<Vec<f64>, SourceError> {
        self.check()?;
        let parse = ParseOptions {
            features: self.engine.options().features,
            ..ParseOptions::default()
        };
        let query = Query {
            cancel: self.cancel.clone(),
            ..Query::parse(query, &parse)?
        };
        let output = self
            .engine
            .range(self.store, &query, steps.start, steps.end(), steps.step_ms)?;
        let mut column = Vec::new();
        let series = match output.value {
            Value::Matrix(series) => series,
            Value::Scalar(_) | Value::String { .. } | Value::Vector(_) => Vec::new(),
        };
        if series.len() > 1 {
            return Err(SourceError::Several(series.len()));
        }
        let points = series.iter().flat_map(|one| one.points.iter().map(|p| (p.at, p.value)));
        steps.place(points, &mut column);
        Ok(column)
    }

    fn check(&self) -> Result<(), SourceError> {
        if self.cancel.is_cancelled() {
            return Err(QueryError::Canceled.into());
        }
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(QueryError::Timeout.into()),
            _ => Ok(()),
        }
    }
}

//! The configuration in force, and its exchange for a newer one.

use super::file::{self, Config};
use crate::api::{ConfigView, LastReload, Listing};
use crate::preset;
use parking_lot::RwLock;
use std::path::PathBuf;
use std::sync::Arc;
use tidegauge_model::{Clock, MetricKind};

/// Where the configuration comes from, each time anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, beside presets that the command line asks for.
    File(PathBuf, preset::Flags),
    /// No file, but presets.
    Presets(preset::Flags),
    /// The built-in one, for a process at this address (with the prefix of its routes behind it).
    BuiltIn(String),
}

impl Source {
    /// Reads it.
    ///
    /// # Errors
    /// [`super::ConfigError`].
    pub fn load(&self) -> Result<Config, super::ConfigError> {
        match self {
            Self::File(path, presets) => file::load_with(path, presets),
            Self::Presets(presets) => file::presets_alone(presets),
            Self::BuiltIn(address) => file::built_in(address),
        }
    }
}

/// Holds the configuration in force. A reload that fails leaves it as it is and is remembered.
#[derive(Debug)]
pub struct Reloader {
    source: Source,
    clock: Arc<dyn Clock>,
    /// Written by `reload` alone, which `reloading` admits one at a time.
    state: RwLock<State>,
    reloading: parking_lot::Mutex<()>,
}

#[derive(Debug)]
struct State {
    config: Arc<Config>,
    last: LastReload,
}

impl Reloader {
    /// Starts with a configuration that was just loaded from `source`.
    pub fn new(source: Source, config: Config, clock: Arc<dyn Clock>) -> Self {
        warn_unsupported(&config);
        let last = LastReload {
            successful: true,
            at: clock.now(),
        };
        Self {
            source,
            clock,
            state: RwLock::new(State {
                config: Arc::new(config),
                last,
            }),
            reloading: parking_lot::Mutex::new(()),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.state.read().config.clone()
    }

    /// Loads anew and has `apply` take it; only then is it in force. Blocks on the file.
    ///
    /// # Errors
    /// What is wrong, in words for whoever asked; the configuration in force stays.
    pub fn reload(&self, apply: impl FnOnce(&Config) -> Result<(), String>) -> Result<(), String> {
        let _one_at_a_time = self.reloading.lock();
        let loaded = self.source.load().map_err(|e| e.to_string());
        let applied = loaded.and_then(|config| apply(&config).map(|()| config));
        let mut state = self.state.write();
        match applied {
            Ok(config) => {
                warn_unsupported(&config);
                state.last = LastReload {
                    successful: true,
                    at: self.clock.now(),
                };
                state.config = Arc::new(config);
                tracing::info!(jobs = state.config.jobs().len(), "configuration loaded");
                Ok(())
            }
            Err(error) => {
                state.last.successful = false;
                tracing::error!(%error, "configuration not loaded; the one before stays in force");
                Err(error)
            }
        }
    }

    /// For `/metrics`.
    pub fn list(&self) -> Vec<Listing> {
        let state = self.state.read();
        let successful = f64::from(u8::from(state.last.successful));
        let at = state.last.at.seconds();
        let one = |value| vec![(Vec::new(), value)];
        let sections = state.config.unsupported().iter();
        vec![
            (
                "tidegauge_config_last_reload_successful",
                "Whether the last load of the configuration succeeded.",
                MetricKind::Gauge,
                one(successful),
            ),
            (
                "tidegauge_config_last_reload_success_timestamp_seconds",
                "Time of the last successful load of the configuration, in Unix seconds.",
                MetricKind::Gauge,
                one(at),
            ),
            (
                "tidegauge_config_unsupported",
                "Sections of the configuration that are valid and have no effect in this version.",
                MetricKind::Gauge,
                sections.map(|u| (vec![("section", u.section.clone())], 1.0)).collect(),
            ),
        ]
    }
}

impl ConfigView for Reloader {
    fn yaml(&self) -> String {
        self.config().effective_yaml().to_owned()
    }

    fn unsupported(&self) -> Vec<String> {
        self.config().unsupported().iter().map(|u| u.section.clone()).collect()
    }

    fn last_reload(&self) -> LastReload {
        self.state.read().last
    }
}

fn warn_unsupported(config: &Config) {
    for unsupported in config.unsupported() {
        tracing::warn!(
            section = unsupported.section,
            line = unsupported.line,
            "this section of the configuration is valid but HAS NO EFFECT in this version"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge_model::Timestamp;
    use tidegauge_model::testing::HandClock;

    #[test]
    fn a_bad_reload_keeps_what_was_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yml");
        std::fs::write(&path, "scrape_configs: [{job_name: a}]").unwrap();
        let source = Source::File(path.clone(), preset::Flags::default());
        let clock = Arc::new(HandClock::at(Timestamp::from_millis(5000)));
        let reloader = Reloader::new(source.clone(), source.load().unwrap(), clock.clone());

        clock.set(Timestamp::from_millis(9000));
        std::fs::write(&path, "scrape_configs: [{jobname: a}]").unwrap();
        let error = reloader
            .reload(|_| panic!("a bad file must not be applied"))
            .unwrap_err();
        assert!(error.contains("did you mean job_name"), "{error}");
        assert_eq!(
            (reloader.last_reload().successful, reloader.last_reload().at.millis()),
            (false, 5000)
        );
        assert_eq!(reloader.config().jobs().len(), 1);

        std::fs::write(&path, "").unwrap();
        assert!(reloader.reload(|_| Err("no".to_owned())).is_err());
        assert_eq!(reloader.config().jobs().len(), 1);
        reloader.reload(|_| Ok(())).unwrap();
        assert_eq!(reloader.config().jobs().len(), 0);
        assert_eq!(
            (reloader.last_reload().successful, reloader.last_reload().at.millis()),
            (true, 9000)
        );
        let list = reloader.list();
        assert!(
            list.iter()
                .any(|l| l.0 == "tidegauge_config_last_reload_successful" && l.3[0].1 == 1.0)
        );
    }
}

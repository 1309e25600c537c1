//! Who may ask, and over what: the file of `--web.config.file` as Prometheus' exporters and servers share it, and
//! tokens beside it.
//!
//! ```text
//!   file, certificates, tokens --sources--> InForce --current--> listener: TLS of a new connection
//!                                                          '---> guard: rate, role, headers of a request
//! ```
//!
//! What was changed is found when a connection or a request comes, at most a quarter of a second later. What cannot be
//! used leaves what was in force, and is told in the log and by `tidegauge_web_config_last_reload_successful`.

mod client_certs;
mod current;
mod file;
mod guard;
mod hash;
mod metrics;
mod rate;
mod role;
mod sources;
mod tls;
mod tokens;
mod users;

pub use current::{Access, AccessFiles};
pub use sources::check;

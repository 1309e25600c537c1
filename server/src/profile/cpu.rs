//! Where the processor's time goes: the stacks of the threads that run, looked at a hundred times for each second of
//! work by a signal.
//!
//! The sampler takes some 70 MB from its first use until the process ends, and some 100 MB while it ends: see
//! docs/decisions/0023.

use super::message::{Builder, Frame, Mapped};
use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use std::collections::HashMap;
use std::ffi::c_void;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::Clock;
use tokio::sync::{Semaphore, TryAcquireError};

/// How often stacks are looked at for a second of work; a prime, so as not to walk in step with what is looked at.
const PER_SECOND: i32 = 101;
/// Code in these is passed over: to look at a stack from within them may wait for ever.
const PASSED_OVER: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];
/// What has to be left of the memory limit.
pub(crate) const BYTES_NEEDED: u64 = 128 << 20;

/// Takes profiles, one at a time.
#[derive(Debug, Clone)]
pub(crate) struct Cpu(Arc<Semaphore>);

/// Why there is no profile.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoProfile {
    /// Another one is being taken.
    Busy,
    /// What the system or the sampler says.
    Failed(String),
}

impl Default for Cpu {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Cpu {
    /// Looks for so long; gives the profile, packed. The sampler has a temporary file, in the folder if the system has no
    /// place for one.
    pub(crate) async fn profile(
        &self,
        length: Duration,
        folder: PathBuf,
        clock: Arc<dyn Clock>,
    ) -> Result<Vec<u8>, NoProfile> {
        let place = self.0.clone().try_acquire_owned();
        let place = place.map_err(|why: TryAcquireError| match why {
            TryAcquireError::NoPermits | TryAcquireError::Closed => NoProfile::Busy,
        })?;
        let begun_ms = clock.now().millis();
        let guard = blocking(move || begin(&folder)).await?;
        // Dropped with the request, if its client goes away.
        tokio::time::sleep(length).await;
        blocking(move || {
            let told = told(&guard, begun_ms);
            drop(guard);
            drop(place);
            told
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, NoProfile> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(NoProfile::Failed),
        Err(ended) => Err(NoProfile::Failed(ended.to_string())),
    }
}

fn begin(folder: &Path) -> Result<ProfilerGuard<'static>, String> {
    if tempfile::tempfile().is_err() {
        // Refused if there was another choice before, which is as good.
        drop(tempfile::env::override_temp_dir(folder));
    }
    let builder = ProfilerGuardBuilder::default()
        .frequency(PER_SECOND)
        .blocklist(&PASSED_OVER);
    builder.build().map_err(|error| format!("cannot begin: {error}"))
}

/// What was seen until now.
fn told(guard: &ProfilerGuard<'_>, begun_ms: i64) -> Result<Vec<u8>, String> {
    let report = guard.report().build_unresolved().map_err(|error| error.to_string())?;
    let period_ns = 1_000_000_000 / i64::from(PER_SECOND);
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")], period_ns);
    let took = i64::try_from(report.timing.duration.as_nanos()).unwrap_or(i64::MAX);
    builder.times(begun_ms, took);
    let mut places = Places::default();
    let stacks: Vec<(Vec<u64>, i64)> = report
        .data
        .iter()
        .map(|(stack, count)| {
            // All but the innermost are where a call returns to, which may be another line.
            let addresses = stack.frames.iter().enumerate();
            let addresses = addresses.map(|(depth, frame)| frame.ip as u64 - u64::from(depth > 0 && frame.ip > 0));
            (addresses.collect(), *count as i64)
        })
        .collect();
    for address in stacks.iter().flat_map(|(stack, _)| stack) {
        places.look_up(*address);
    }
    for mapped in program_maps() {
        builder.map(&mapped, places.any_known());
    }
    for (stack, count) in stacks {
        let locations = stack.into_iter().map(|address| places.number(address, &mut builder));
        let locations = locations.collect();
        builder.sample(locations, vec![count, count * period_ns]);
    }
    builder.packed().map_err(|error| error.to_string())
}

/// What lies at addresses, each looked up once.
#[derive(Default)]
struct Places {
    frames: HashMap<u64, Vec<Frame>>,
    numbers: HashMap<u64, u64>,
}

impl Places {
    fn look_up(&mut self, address: u64) {
        self.frames.entry(address).or_insert_with(|| {
            let mut frames = Vec::new();
            backtrace::resolve(address as *mut c_void, |symbol| {
                // A release has no names in it: `pprof` finds them by the address, given a program that has.
                let Some(name) = symbol.name() else { return };
                frames.push(Frame {
                    function: format!("{name:#}"),
                    file: symbol
                        .filename()
                        .map_or_else(String::new, |path| path.display().to_string()),
                    line: symbol.lineno().unwrap_or(0),
                });
            });
            frames
        });
    }

    fn any_known(&self) -> bool {
        self.frames.values().any(|frames| !frames.is_empty())
    }

    fn number(&mut self, address: u64, builder: &mut Builder) -> u64 {
        let frames = self.frames.get(&address).map_or(&[][..], Vec::as_slice);
        *self
            .numbers
            .entry(address)
            .or_insert_with(|| builder.location(address, frames))
    }
}

/// Where the program's own code lies.
fn program_maps() -> Vec<Mapped> {
    let (Ok(maps), Ok(program)) = (fs::read_to_string("/proc/self/maps"), fs::read_link("/proc/self/exe")) else {
        return Vec::new();
    };
    let lines = maps.lines().filter_map(mapped);
    lines.filter(|mapped| program.as_os_str() == &*mapped.file).collect()
}

/// A line of `/proc/self/maps`, if it is of code in a file: `start-limit r-xp offset device inode path`.
fn mapped(line: &str) -> Option<Mapped> {
    let mut parts = line.split_ascii_whitespace();
    let (start, limit) = parts.next()?.split_once('-')?;
    let executable = parts.next()?.contains('x');
    let number = |hexadecimal| u64::from_str_radix(hexadecimal, 16).ok();
    let offset = number(parts.next()?)?;
    let file = parts.nth(2)?;
    // The path may hold blanks: it goes to the end of the line.
    let file = line.get(line.find(file)?..)?.trim_end();
    executable.then_some(Mapped {
        start: number(start)?,
        limit: number(limit)?,
        offset,
        file: file.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read() {
        let line = "7f00a000-7f00c000 r-xp 00001000 08:01 1234                       /opt/my programs/tidegauge\n";
        assert_eq!(
            mapped(line),
            Some(Mapped {
                start: 0x7f00_a000,
                limit: 0x7f00_c000,
                offset: 0x1000,
                file: "/opt/my programs/tidegauge".into()
            })
        );
        assert_eq!(mapped("7f00a000-7f00c000 r--p 00001000 08:01 1234 /opt/x"), None);
        assert_eq!(mapped("7f00a000-7f00c000 r-xp 00000000 00:00 0"), None);
        assert_eq!(mapped("nothing"), None);
        assert!(!program_maps().is_empty());
    }
}

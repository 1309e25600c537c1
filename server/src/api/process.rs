//! What the operating system says of this process, under the names every client library uses.

use super::exposition::Listing;
use std::fs;
use std::sync::OnceLock;
use tidegauge_model::MetricKind;

/// The process' metrics; those the system does not tell are left out.
pub(crate) fn list() -> Vec<Listing> {
    let mut listings = Vec::new();
    let mut push = |name, help, kind, value: Option<f64>| {
        if let Some(value) = value {
            listings.push((name, help, kind, vec![(Vec::new(), value)]));
        }
    };
    let stat = Stat::read();
    let (counter, gauge) = (MetricKind::Counter, MetricKind::Gauge);
    push(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        counter,
        stat.as_ref().map(|stat| stat.cpu_seconds),
    );
    push(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        gauge,
        stat.as_ref().map(|stat| stat.resident_bytes),
    );
    push(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        gauge,
        stat.as_ref().map(|stat| stat.virtual_bytes),
    );
    push(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        gauge,
        limit("Max address space"),
    );
    let (received, sent) = network_bytes().unzip();
    push(
        "process_network_receive_bytes_total",
        "Number of bytes received by the process over the network.",
        counter,
        received,
    );
    push(
        "process_network_transmit_bytes_total",
        "Number of bytes sent by the process over the network.",
        counter,
        sent,
    );
    push(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        gauge,
        stat.as_ref().and_then(Stat::start_seconds),
    );
    push(
        "process_open_fds",
        "Number of open file descriptors.",
        gauge,
        open_fds(),
    );
    push(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        gauge,
        limit("Max open files"),
    );
    listings
}

/// The memory that is resident.
pub(crate) fn resident_bytes() -> Option<u64> {
    Stat::read().map(|stat| stat.resident_bytes as u64)
}

/// The fields of `/proc/self/stat` that are shown.
struct Stat {
    cpu_seconds: f64,
    start_ticks: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// The second field is the program's name in parentheses and may hold anything; the rest are numbers.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        // proc(5) counts from 1 and the third field comes first here.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            start_ticks: field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
        })
    }

    fn start_seconds(&self) -> Option<f64> {
        static BOOT: OnceLock<Option<f64>> = OnceLock::new();
        let boot = BOOT.get_or_init(|| {
            let stat = fs::read_to_string("/proc/stat").ok()?;
            stat.lines()
                .find_map(|line| line.strip_prefix("btime "))?
                .trim()
                .parse()
                .ok()
        });
        boot.map(|boot| boot + self.start_ticks)
    }
}

fn open_fds() -> Option<f64> {
    // The listing itself holds one open.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// A limit in force; where there is none, what upstream's client shows.
fn limit(name: &str) -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

/// Bytes in and out, as the kernel counts them for the network that the process is in, as upstream's client does.
fn network_bytes() -> Option<(f64, f64)> {
    octets(&fs::read_to_string("/proc/self/net/netstat").ok()?)
}

fn octets(netstat: &str) -> Option<(f64, f64)> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let of = |wanted: &str| {
        let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
        let (_, value) = pairs.find(|(name, _)| *name == wanted)?;
        value.parse().ok()
    };
    Some((of("InOctets")?, of("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let listings = list();
        let names: Vec<&str> = listings.iter().map(|listing| listing.0).collect();
        assert!(
            names.contains(&"process_resident_memory_bytes") && names.contains(&"process_open_fds"),
            "{names:?}"
        );
        assert!(listings.iter().all(|listing| {
            listing
                .3
                .iter()
                .all(|(_, value)| *value > 0.0 || listing.0.contains("cpu") || listing.0.contains("network"))
        }));
    }

    #[test]
    fn odd_program_names_are_skipped() {
        let text = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 100 200 0 0 20 0 3 0 500 4096 2 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.virtual_bytes, 4096.0);
        assert!(Stat::parse("7 (x").is_none() && Stat::parse("7 (x) S 1").is_none());
    }

    #[test]
    fn octets_are_found_by_their_names() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: X InOctets OutOctets\nIpExt: 0 7 8\n";
        assert_eq!(octets(text), Some((7.0, 8.0)));
        assert_eq!(octets("IpExt: InOctets\nIpExt: 7\n"), None);
        assert_eq!(octets(""), None);
    }
}
